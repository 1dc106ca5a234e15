"""The table of path patterns in docs/configuration.md: every row is executed."""

import re

import pytest

from cipipe import patterns
from support.markdown import DOCS, rows, section


def pattern_table() -> list[tuple[tuple[str, ...], bytes, bool, str]]:
    """Patterns, path, whether it is a submodule, and whether it matches. `\\n`, `\\xff`, `\\\\` are
    escapes.
    """
    found = []
    for row in rows(section(DOCS / "configuration.md", 2, "Path patterns")):
        given = tuple(re.findall(r"`([^`]+)`", row[0]))
        path = re.match(r"`([^`]+)`( \(submodule\))?$", row[1]) if len(row) == 3 else None
        if given and path and row[2] in {"yes", "no"}:
            # Paths are bytes, and a Markdown table cannot contain line breaks or invalid UTF-8.
            raw = re.sub(rb"\\(n|\\|x[0-9a-f]{2})", _unescaped, path[1].encode())
            found.append((given, raw, bool(path[2]), row[2]))
    return found


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return {b"n": b"\n", b"\\": b"\\"}.get(code) or bytes.fromhex(code[1:].decode())


def test_the_table_is_long_enough_and_every_row_is_read() -> None:
    body = section(DOCS / "configuration.md", 2, "Path patterns")
    assert len(pattern_table()) >= 40
    # A row with a typing error must not be skipped silently.
    header_and_rule = 2
    assert len(pattern_table()) == len(rows(body)) - header_and_rule
    assert {answer for *_, answer in pattern_table()} == {"yes", "no"}


@pytest.mark.parametrize(("given", "path", "submodule", "answer"), pattern_table())
def test_a_row_of_the_table(
    given: tuple[str, ...], path: bytes, submodule: bool, answer: str
) -> None:
    assert [patterns.complaint(pattern) for pattern in given] == [None] * len(given)
    chosen = patterns.Patterns(given)
    found = chosen.matches_link(path) if submodule else chosen.matches(path)
    assert found == (answer == "yes")


@pytest.mark.parametrize(("given", "path", "submodule", "answer"), pattern_table())
def test_shortcuts_agree_with_the_table(
    given: tuple[str, ...], path: bytes, submodule: bool, answer: str
) -> None:
    """`prefixes` are looked up in git, so they contain every match. `folders` count completely,
    so everything in them must match.
    """
    chosen = patterns.Patterns(given)
    looked_at = (*chosen.folders, *chosen.prefixes)
    if answer == "yes":
        assert any(
            not place or path == place or path.startswith(place + b"/") for place in looked_at
        )
    elif not submodule:
        assert not any(path.startswith(folder + b"/") for folder in chosen.folders)


@pytest.mark.parametrize(
    "pattern", re.findall(r"^- `([^`]*)`: ", (DOCS / "configuration.md").read_text(), re.MULTILINE)
)
def test_refused_patterns_are_refused(pattern: str) -> None:
    assert patterns.complaint(pattern) is not None
