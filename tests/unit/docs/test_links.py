"""Every page: its links resolve, the files that it names exist, and its lines are not too long."""

import re
from pathlib import Path

import pytest

from support.markdown import DOCS, ROOT, headings, slug


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        # Web addresses are not checked: tests have no network.
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        if not file.exists() or (
            anchor and anchor not in {slug(title) for _, title in headings(file)}
        ):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    """Names in capitals are placeholders, as in `cipipe/stages/KIND.py`; tables have examples."""
    text = re.sub(r"^\|.*", "", page.read_text(), flags=re.MULTILINE)
    named = re.findall(r"`((?:cipipe|scripts|tests)/[a-z0-9_./]+[a-z0-9_/])`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []


# An entry of the change log may be one long line.
WRAPPED = [page for page in pages() if page.name != "CHANGELOG.md"]


@pytest.mark.parametrize("page", WRAPPED, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_at_most_120_characters_long(page: Path) -> None:
    """Outside of code blocks and tables, which cannot be wrapped."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    long = [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")]
    assert long == []


def test_all_documents_are_found() -> None:
    names = {page.name for page in pages()}
    assert {
        "errors.md",
        "configuration.md",
        "commands.md",
        "architecture.md",
        "CONTRIBUTING.md",
    } <= names
