"""Reads the Markdown pages of the documentation."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def headings(page: Path) -> list[tuple[int, str]]:
    """Level and title of every heading, without backticks."""
    # In a code block, a line that starts with # is a comment.
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [
        (len(marks), title.replace("`", ""))
        for marks, title in re.findall(r"^(#+) (.+)$", text, re.MULTILINE)
    ]


def slug(title: str) -> str:
    """A heading's anchor, as GitHub and GitLab generate it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def section(page: Path, level: int, title: str) -> str:
    """The text under a heading, up to the next heading of its level or above."""
    kept: list[str] = []
    inside = fenced = False
    for line in page.read_text().splitlines():
        fenced ^= line.startswith("```")
        heading = None if fenced else re.match(r"(#+) (.+)$", line)
        if heading and len(heading[1]) <= level:
            inside = heading[2].replace("`", "") == title and len(heading[1]) == level
        elif inside:
            kept.append(line)
    assert kept, f"{page.name} has no section {title!r}"
    return "\n".join(kept)


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table; `\\|` within a cell is a bar."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line.strip("|")) for line in lines]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in cells]


def block(text: str, language: str) -> str:
    """The first fenced block in that language."""
    found = re.search(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found, f"there is no {language} block"
    return found[1]
