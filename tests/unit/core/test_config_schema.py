"""The schema of cipipe.toml and its parser agree on what a configuration may have."""

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from cipipe import config
from cipipe.config.schema import schema
from cipipe.errors import ProblemsError
from cipipe.stages import KINDS
from support.configurations import LIVE_ELSEWHERE, WHOLE
from support.markdown import DOCS

VALID = WHOLE
VALIDATOR = jsonschema.Draft202012Validator(schema())


def accepted(text: str) -> bool:
    return not list(VALIDATOR.iter_errors(tomllib.loads(text)))


def examples() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every example in the documentation; not those that leave something out with `…`."""
    yield "cipipe.toml", tomllib.loads((DOCS.parent / "cipipe.toml").read_text())
    for page in [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]:
        for text in re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            if "…" not in text:
                yield page.name, tomllib.loads(text)


def merged(table: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The table with the other's keys in it, at every depth."""
    both = dict(table)
    for key, value in other.items():
        inside = isinstance(value, dict) and isinstance(table.get(key), dict)
        both[key] = merged(table[key], value) if inside else value
    return both


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert json.dumps(schema()) == json.dumps(schema())
    assert "null" not in json.dumps(schema())


EXAMPLES = [
    (page, table)
    for page, table in examples()
    if table.keys() & {"project", "environments", "stages", "oidc", "bootstrap", "ledger"}
]


@pytest.mark.parametrize(("page", "table"), EXAMPLES)
def test_examples_are_valid(page: str, table: dict[str, Any]) -> None:
    """Parts of a configuration, too: together with what they leave out."""
    whole = table if "project" in table else merged(tomllib.loads(VALID + LIVE_ELSEWHERE), table)
    assert [error.message for error in VALIDATOR.iter_errors(whole)] == []


def test_there_are_examples() -> None:
    assert len([table for _, table in EXAMPLES if "project" in table]) >= 2
    assert len(EXAMPLES) >= 6


def test_every_key_of_every_kind_is_there() -> None:
    definitions = schema()["$defs"]
    for name, kind in KINDS.items():
        keys = definitions[f"stage-of-kind-{name}"]["properties"]
        assert set(kind.Settings.__struct_fields__) < set(keys)
        assert {"paths", "needs", "when", "environments"} < set(keys)


CHANGES: dict[str, tuple[str, str]] = {
    "an unknown table": ("[project]", "[projekt]\n[project]"),
    "an unknown key of a stage": ('context = "dbt"', 'context = "dbt"\ncontxt = "x"'),
    "a key of another kind": ('context = "dbt"', 'context = "dbt"\nroot = "x"'),
    "an unknown kind": ('kind = "image"', 'kind = "picture"'),
    "no kind": ('kind = "image"\n', ""),
    "no context": ('context = "dbt"\n', ""),
    "a wrong type": ('context = "dbt"', "context = 1"),
    "a setting of a wrong type": ('{ output = "url" }', "3"),
    "an unknown key of a reference": ('{ output = "url" }', '{ outputs = "url" }'),
    "a reference to two things": ('{ output = "url" }', '{ output = "url", env = "URL" }'),
    "a reference to nothing": ('{ output = "url" }', '{ default = "url" }'),
    "a fingerprint with a default": (
        '{ output = "url" }',
        '{ fingerprint = "iac", default = "x" }',
    ),
    "an account that is none": ('"111111111111"', '"1111"'),
    "an unknown provider": ("[project]", "[oidc.gitlob]\n[project]"),
    "an environment without a region": ('region = "eu-central-1"\n', ""),
    "a bad name": ("[stages.image]", '[stages."im age"]'),
    "a wrong word": ('context = "dbt"', 'context = "dbt"\ncache = "outline"'),
    "no paths": ('paths = ["dbt/**"]\n', ""),
    "only excluded paths": ('["dbt/**"]', '["!dbt/**"]'),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_wrong_is_refused_by_both(name: str) -> None:
    old, new = CHANGES[name]
    assert VALID.count(old) >= 1
    text = VALID.replace(old, new, 1)
    with pytest.raises(ProblemsError):
        config.load(text.encode())
    assert not accepted(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{ output = "url" }', '"url"'),
        ('{ output = "url" }', '{ env = "URL", default = "url" }'),
        ('context = "dbt"', 'context = "dbt"\nscan = { severity = "low" }'),
        ('paths = ["dbt/**"]', 'when = "always"'),
    ],
)
def test_what_is_right_is_accepted_by_both(old: str, new: str) -> None:
    text = VALID.replace(old, new, 1)
    assert text != VALID
    config.load(text.encode())
    assert accepted(text)
