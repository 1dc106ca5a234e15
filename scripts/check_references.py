#!/usr/bin/env python3
"""Fail when a docstring or a comment names a document that is not in the repository.

`make lint` runs this over every tracked source file. A page may be named from the root of the
repository, from `docs/`, or from the folder of the file that names it.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# A web address is not a file of ours. `.` and `/` at its end belong to the sentence.
ADDRESS = re.compile(r"[a-z]+://\S+")
PAGE = re.compile(r"(?<![\w./*<{-])(?:[\w.-]+/)*[\w.-]+\.md\b|(?<![\w./-])docs/[\w./-]*\w")

# The name of a document in capitals, or a numbered section of one; sections of RFCs are fine.
NAMED = re.compile(r"\b(?:DESIGN|STYLE|TESTBED)\b|(?<!RFC \d{4} )§ ?\d+")

# In these, a comment is a line, or the end of one, that starts with `#`.
HASH_COMMENTS = {".tf", ".hcl", ".tfvars", ".toml", ".yml", ".yaml", ".sh", ".sql"}
HASH_FILES = {"Dockerfile", "Makefile"}


def main() -> int:
    found = 0
    for name in _tracked():
        path = ROOT / name
        if not path.is_file():
            continue

        for line, text in prose(name, path.read_text(encoding="utf-8", errors="replace")):
            for document in missing(text, ROOT, path.parent):
                sys.stderr.write(f"{name}:{line}: names {document!r}, which does not exist\n")
                found += 1

    return 1 if found else 0


def missing(text: str, root: Path, folder: Path) -> list[str]:
    """The documents that a docstring or comment in `folder` names, and that do not exist."""
    text = ADDRESS.sub("", text)
    pages = [page for page in PAGE.findall(text) if not _exists(page, root, folder)]
    return pages + NAMED.findall(text)


def _exists(page: str, root: Path, folder: Path) -> bool:
    # A page that is named without a folder is one that many repositories have, such as README.md.
    if page in {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"}:
        return True
    return any(
        (place / page).exists() or any(place.glob(f"{page}-*.md"))  # a decision by its number
        for place in (root, root / "docs", folder)
    )


def prose(name: str, source: str) -> Iterator[tuple[int, str]]:
    """Docstrings and comments of a file, each with the line that it starts on."""
    path = Path(name)
    first_line = source.partition("\n")[0]
    if path.suffix == ".py":
        yield from _python(source)
    elif (
        path.suffix in HASH_COMMENTS
        or path.name in HASH_FILES
        or (first_line.startswith("#!") and "sh" in first_line)
    ):
        for number, line in enumerate(source.splitlines(), start=1):
            if match := re.search(r"(?:^|\s)#(.*)", line):
                yield number, match[1]


def _python(source: str) -> Iterator[tuple[int, str]]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text

    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listed.stdout.split("\0") if name]


if __name__ == "__main__":
    sys.exit(main())
