"""Drift as text, Markdown and JSON."""

import msgspec

from cipipe.report import drift, json
from cipipe.results import DriftFinding, DriftReport, StageDrift

COMMIT = "1a2b3c4" + "0" * 33


def finding(stage: str, kind: str = "tag-moved", what: str = "r.test/app:1") -> DriftFinding:
    return DriftFinding(
        stage=stage, kind=kind, what=what, expected="one", actual="two", hint="Do it."
    )


def report(*findings: DriftFinding) -> DriftReport:
    stages = (
        StageDrift(name="iac", kind="terraform", state="deployed", commit=COMMIT),
        StageDrift(name="image", kind="image", state="deployed", commit=COMMIT),
        StageDrift(name="dags", kind="dags", state="never-deployed"),
    )
    return DriftReport(project="shop", environment="dev", stages=stages, findings=findings)


UNCHECKED = DriftFinding.unchecked("iac", "infra", "no clone", "Fetch it.")


def test_text() -> None:
    assert drift.text(report(UNCHECKED, finding("image"))) == (
        "shop → dev\n"
        "\n"
        "  iac    unchecked  deployed 1a2b3c4\n"
        "           unchecked  infra\n"
        "             expected: to be compared with the ledger\n"
        "             actual:   no clone\n"
        "             to do:    Fetch it.\n"
        "  image  drifted    deployed 1a2b3c4\n"
        "           tag-moved  r.test/app:1\n"
        "             expected: one\n"
        "             actual:   two\n"
        "             to do:    Do it.\n"
        "  dags   nothing    never-deployed\n"
        "\n"
        "1 thing differs, 1 could not be compared.\n"
    )


def test_how_much_was_found() -> None:
    assert drift.counted(report()) == "Everything is as the ledger says."
    assert drift.counted(report(finding("iac"))) == "1 thing differs from the ledger."
    two = report(finding("iac"), finding("image"))
    assert drift.counted(two) == "2 things differ from the ledger."
    assert drift.counted(report(UNCHECKED)) == (
        "Nothing that could be compared differs, 1 could not be compared."
    )
    empty = msgspec.structs.replace(report(), stages=())
    assert drift.counted(empty) == "There is no stage to compare."


def test_markdown_keeps_names_in_code_spans() -> None:
    text = drift.markdown(report(finding("image", what="`x` <b>@all\n/close")))
    assert "### Drift of `shop` → `dev`" in text
    assert "- `iac`: same, deployed 1a2b3c4" in text
    assert "  - **tag-moved** `` `x` <b>@all\\n/close ``" in text
    assert "    - to do: `Do it.`" in text


def test_json_counts_what_differs() -> None:
    document = msgspec.json.decode(json.drift(report(UNCHECKED, finding("image"))))
    assert (document["schema"], document["drifted"], document["unchecked"]) == (1, 1, 1)
    assert document["stages"][0] == {
        "name": "iac",
        "kind": "terraform",
        "state": "deployed",
        "commit": COMMIT,
    }
    assert document["findings"][1] == {
        "stage": "image",
        "kind": "tag-moved",
        "what": "r.test/app:1",
        "expected": "one",
        "actual": "two",
        "hint": "Do it.",
    }
