"""The paths that Terraform files refer to: local sources of modules, and
files that expressions read.

This is for warnings, so it is loose: what the text alone does not tell is
left out. Source: developer.hashicorp.com/terraform/language/functions.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from cipipe.stages.terraform.files.hcl_strings import (
    StringLiteral,
    Token,
    json_strings,
    string_literals,
    template_literals,
)


class PathReference(NamedTuple):
    line: int
    path: str
    is_module: bool = False
    # What the path is relative to: the `module` that the file belongs to,
    # or the `root` that Terraform runs in.
    base: str = "module"
    # The pattern of `fileset`, for files below the path.
    pattern: str | None = None


_READING = {
    "file",
    "filebase64",
    "filebase64sha256",
    "filebase64sha512",
    "filemd5",
    "filesha1",
    "filesha256",
    "filesha512",
    "templatefile",
}
"""Functions whose argument is a file's path."""

_BASES = {"path.module": "module", "path.root": "root", "path.cwd": "root"}
_LOCAL = re.compile(r"\.\.?(/|\Z)")
_UP = re.compile(r"(\.\.?)/+")
_BRACES = re.compile(r"\{([^{}]*)\}")
_MAX_ALTERNATIVES = 64

_MAY_REFER = re.compile(
    rb"""["']\.\.?[/"\\]|\\[uU]|\bpath\.(?:module|root|cwd)\b"""
    rb"""|\b(?:templatefile|file(?:set|md5|sha\d+|base64\w*)?)\s*\("""
)
"""Found in every file that has a reference. Most files have none and need no closer look."""


def references_in(body: bytes) -> Iterator[PathReference]:
    """The references of a `*.tf` file."""
    if not _MAY_REFER.search(body):
        return
    lines = _Lines(body.decode(errors="surrogateescape"))
    for string in string_literals(lines.text):
        if (found := _reference(string)) is not None:
            yield found._replace(line=lines.number(string.at))


def references_in_json(body: bytes) -> Iterator[PathReference]:
    """The references of a `*.tf.json` file, whose strings Terraform reads as templates."""
    if not _MAY_REFER.search(body):
        return
    lines = _Lines(body.decode(errors="surrogateescape"))
    for at, keys, value in json_strings(lines.text):
        if len(keys) == 3 and keys[0] == "module" and keys[2] == "source":
            if _LOCAL.match(value):
                yield PathReference(lines.number(at), value, is_module=True)
        elif "//" not in keys and "${" in value:  # a key `//` is a comment
            for string in template_literals(value):
                if (found := _reference(string)) is not None:
                    yield found._replace(line=lines.number(at))


def alternatives(pattern: str) -> list[str]:
    """A pattern of `fileset` as patterns without braces; none where there would be too many."""
    found: list[str] = []
    waiting = [pattern]
    while waiting:
        text = waiting.pop()
        braces = _BRACES.search(text)
        if braces is None:
            found.append(text)
        else:
            before = text[: braces.start()]
            after = text[braces.end() :]
            waiting += [before + one + after for one in braces[1].split(",")]
        if len(found) + len(waiting) > _MAX_ALTERNATIVES:
            return []
    return sorted(set(found))


class _Lines:
    """Line numbers of offsets, which have to be asked for in ascending order."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._number = 1
        self._counted = 0

    def number(self, at: int) -> int:
        if at > self._counted:
            self._number += self.text.count("\n", self._counted, at)
            self._counted = at
        return self._number


def _reference(string: StringLiteral) -> PathReference | None:
    """The reference that a string is, if it is the path of something that is read."""
    before = string.before
    if before[-4:-2] == ("fileset", "(") and before[-1] == ",":
        return _fileset(before[-2], string)

    base, path = _path(string)
    # The first argument of `fileset` counts together with the second one.
    if path is None or before[-2:] == ("fileset", "("):
        return None
    if string.in_module and before[-2:] == ("source", "="):
        is_local = base is None and _LOCAL.match(path)
        return PathReference(0, path, is_module=True) if is_local else None
    if base is not None:
        return PathReference(0, path, base=base)

    is_argument = len(before) > 1 and before[-1] == "(" and before[-2] in _READING
    is_providers = before[-4:-2] == (":", ":")  # provider::NAME::file(…)
    if is_argument and not is_providers and path and not path.startswith(("/", "~")):
        return PathReference(0, path, base="root")
    return None


def _fileset(folder: Token, pattern: StringLiteral) -> PathReference | None:
    """The reference of `fileset(folder, pattern)`."""
    if isinstance(folder, str):
        base = _BASES.get(folder)
        path: str | None = "."
        if base is None:
            return None
    else:
        base, path = _path(folder)

    below, wanted = _path(pattern)
    if path is None or wanted is None or below is not None:
        return None
    while (up := _UP.match(wanted)) is not None:  # a pattern may leave the folder, too
        path = f"{path}/{up[1]}"
        wanted = wanted[up.end() :]
    return PathReference(0, path, base=base or "root", pattern=wanted)


def _path(string: StringLiteral) -> tuple[str | None, str | None]:
    """The base of a path, if it starts with `${path.module}` or the like,
    and the rest of it. The rest is None where it cannot be known.
    """
    pieces = [piece for piece in string.pieces if piece != ""]
    base = None
    if pieces and pieces[0] is not None and pieces[0].startswith("${"):
        base = _BASES.get(pieces[0][2:-1])
        if base is None:
            return None, None
        pieces = pieces[1:]
        if pieces and not (pieces[0] or "").startswith("/"):
            return None, None

    literal = [piece for piece in pieces if piece is not None and not piece.startswith("${")]
    if len(literal) != len(pieces):
        return None, None
    path = "".join(literal)
    return base, (path.lstrip("/") or ".") if base else path
