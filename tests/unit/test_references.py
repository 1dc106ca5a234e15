"""Which documents a docstring or comment may name; `make lint` runs the script over all files."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts/check_references.py"))


def missing(text: str) -> list[str]:
    found: list[str] = SCRIPT["missing"](text, ROOT, ROOT / "docs/decisions")
    return found


@pytest.mark.parametrize(
    "text",
    [
        "See docs/errors.md.",
        "errors.md has the list",
        "0001-content-not-diffs.md, in the same folder",
        "docs/decisions/0002 says why",
        "RFC 8941 §4.2",
        "https://example.com/docs/other.md",
        "Designed in style.",
    ],
)
def test_what_exists_may_be_named(text: str) -> None:
    assert missing(text) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("See docs/design.md.", "docs/design.md"),
        ("See notes.md.", "notes.md"),
        ("docs/decisions/9999 says why", "docs/decisions/9999"),
        ("as DESIGN says", "DESIGN"),
        ("the ledger (§6)", "§6"),
    ],
)
def test_a_missing_document_is_found(text: str, named: str) -> None:
    assert missing(text) == [named]


def test_docstrings_and_comments_count_and_other_strings_do_not() -> None:
    source = '"""Docstring."""\nvalue = "text"  # comment\n'
    assert list(SCRIPT["prose"]("a.py", source)) == [(1, "Docstring."), (2, "# comment")]
    assert list(SCRIPT["prose"]("main.tf", "a = 1 # why\n")) == [(1, " why")]
    assert list(SCRIPT["prose"]("a.json", "{} # why\n")) == []
