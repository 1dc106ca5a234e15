"""The example of docs/identity.md is what `cipipe oidc explain` prints."""

import json
import re
from pathlib import Path

from cipipe.oidc.policy import parse
from cipipe.report import identity
from support.claim_sets import explained

PAGE = (Path(__file__).parents[3] / "docs" / "identity.md").read_text()


def test_the_example_is_real_output() -> None:
    policy, claims = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    printed = re.search(
        r"\$ cipipe oidc explain --policy policy.json --claims claims.json\n(.*?)```",
        PAGE,
        re.DOTALL,
    )
    assert printed
    assert identity.explanation(explained(json.loads(claims), parse(policy))) == printed[1]


def test_the_table_of_claims_matches_the_data() -> None:
    table = json.loads((Path(__file__).parents[3] / "cipipe/oidc/condition_keys.json").read_text())
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "`" in line]
    shown = [sorted(re.findall(r"`(\w+)`", row.rsplit("|", 2)[1])) for row in rows]
    lists = [table["every"], table["claims"]["gitlab"], table["claims"]["github"]]
    assert shown[:3] == [sorted(names) for names in lists]


def test_output_is_coloured_by_the_style_only() -> None:
    policy, claims = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    found = explained(json.loads(claims), parse(policy))
    coloured = identity.explanation(found, lambda word, colour: f"<{colour}>{word}</>")
    assert coloured.startswith("<red>denied</>: ")
    assert "<yellow>oidc-mutable-name</>" in coloured
    assert re.sub(r"<[a-z/]*>", "", coloured) == identity.explanation(found)
