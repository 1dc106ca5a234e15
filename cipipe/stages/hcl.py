"""What Terraform files take from elsewhere: the local sources of modules, and paths that
expressions read.

Read loosely: this is for warnings, and what cannot be told from the text alone is left out. The
text is read once, from front to back, with a stack for what is nested: a `"` inside of `${ }`
opens a string of its own. Source: developer.hashicorp.com/terraform/language/syntax, and
…/functions.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Union


class Taken(NamedTuple):
    """A path that a file takes.

    `base` is what it is relative to: the `module` that the file is part of, or the `root` that
    Terraform runs in. `pattern` is that of `fileset`, whose files lie below the path.
    """

    line: int
    path: str
    is_module: bool = False
    base: str = "module"
    pattern: str | None = None


_READING = {
    "file",
    "templatefile",
    "filebase64",
    "filemd5",
    "filesha1",
    "filesha256",
    "filesha512",
} | {f"filebase64{digest}" for digest in ("sha256", "sha512")}
_BASES = {"path.module": "module", "path.root": "root", "path.cwd": "root"}
_LOCAL = re.compile(r"\.\.?(/|\Z)")
_UP = re.compile(r"(\.\.?)/+")
_BRACES = re.compile(r"\{([^{}]*)\}")
_MOST_ALTERNATIVES = 64

_MAY_TAKE = re.compile(
    rb"""["']\.\.?[/"\\]|\\[uU]|\bpath\.(?:module|root|cwd)\b|\b(?:templatefile|file(?:set|md5|sha\d+|base64\w*)?)\s*\("""
)
"""Found in each file that names anything: most need not be read any further."""


def taken(body: bytes) -> Iterator[Taken]:
    """What a `*.tf` file takes."""
    if not _MAY_TAKE.search(body):
        return
    lines = _Lines(body.decode(errors="surrogateescape"))
    for string in _strings(lines.text, _Frame("code")):
        if (found := _named(string)) is not None:
            yield found._replace(line=lines.number(string.at))


def taken_from_json(body: bytes) -> Iterator[Taken]:
    """What a `*.tf.json` file takes; its strings are read as templates, as Terraform does."""
    if not _MAY_TAKE.search(body):
        return
    lines = _Lines(body.decode(errors="surrogateescape"))
    for at, keys, value in _json_strings(lines.text):
        if len(keys) == 3 and keys[0] == "module" and keys[2] == "source":
            if _LOCAL.match(value):
                yield Taken(lines.number(at), value, is_module=True)
        elif "//" not in keys and "${" in value:
            for string in _strings(value, _Frame("template")):
                if (found := _named(string)) is not None:
                    yield found._replace(line=lines.number(at))


class _Lines:
    """The numbers of lines, asked for from front to back."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._number, self._counted = 1, 0

    def number(self, at: int) -> int:
        if at > self._counted:
            self._number += self.text.count("\n", self._counted, at)
            self._counted = at
        return self._number


class _String(NamedTuple):
    """A string literal: where it starts, its pieces, the tokens before it, and whether it stands
    right in a module's block.

    A piece is text; or the only word of an interpolation, as `${word}`; None is any other
    interpolation.
    """

    at: int
    pieces: tuple[str | None, ...]
    before: tuple["_Token", ...] = ()
    in_module: bool = False


_Token = Union[str, _String]  # noqa: UP007 - one of them is not defined yet where the other is


def _named(string: _String) -> Taken | None:
    """What a string names, if it is a path that is read."""
    before = string.before
    if before[-4:-2] == ("fileset", "(") and before[-1] == ",":
        return _fileset(before[-2], string)
    base, path = _path(string)
    if path is None or before[-2:] == ("fileset", "("):
        return None
    if string.in_module and before[-2:] == ("source", "="):
        return Taken(0, path, is_module=True) if base is None and _LOCAL.match(path) else None
    if base is not None:
        return Taken(0, path, base=base)
    reads = len(before) > 1 and before[-1] == "(" and before[-2] in _READING
    reads = reads and before[-4:-2] != (":", ":")  # else it is a provider's function
    if reads and path and not path.startswith(("/", "~")):
        return Taken(0, path, base="root")
    return None


def _fileset(folder: "_Token", pattern: _String) -> Taken | None:
    base, path = (_BASES.get(folder), ".") if isinstance(folder, str) else _path(folder)
    below, wanted = _path(pattern)
    if (
        path is None
        or wanted is None
        or below is not None
        or (isinstance(folder, str) and base is None)
    ):
        return None
    while (up := _UP.match(wanted)) is not None:  # a pattern may leave the folder, too
        path, wanted = f"{path}/{up[1]}", wanted[up.end() :]
    return Taken(0, path, base=base or "root", pattern=wanted)


def alternatives(pattern: str) -> list[str]:
    """A pattern of `fileset` as patterns without braces; none where there would be too many."""
    found, waiting = list[str](), [pattern]
    while waiting:
        text = waiting.pop()
        braces = _BRACES.search(text)
        if braces is None:
            found.append(text)
        else:
            waiting += [
                text[: braces.start()] + one + text[braces.end() :] for one in braces[1].split(",")
            ]
        if len(found) + len(waiting) > _MOST_ALTERNATIVES:
            return []
    return sorted(set(found))


def _path(string: _String) -> tuple[str | None, str | None]:
    """The base of a path (`path.module` and its like, or None) and the rest of it; None where that
    is not known.
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


@dataclass
class _Frame:
    """What is being read: `code`, a `string`, a `heredoc` up to its `end`, or a `template`, which
    is all of the text.
    """

    kind: str
    start: int = 0
    end: str = ""
    depth: int = 0
    in_module: bool = False
    tokens: int = 0
    last: list[_Token] = field(default_factory=list)
    pieces: list[str | None] = field(default_factory=list)

    def add(self, token: _Token) -> None:
        self.tokens += 1
        self.last = [*self.last[-3:], token]

    def interpolated(self) -> str | None:
        """What the code inside of `${ }` amounts to as a piece of a string."""
        only = self.last[0] if self.tokens == 1 else None
        return f"${{{only}}}" if isinstance(only, str) else None


_CODE = re.compile(
    r"""(?:\#|//)[^\n]*|/\*.*?(?:\*/|\Z)|<<-?[ \t]*(?P<heredoc>[\w-]+)[ \t]*\r?(?=\n)|(?P<quote>")"""
    r"""|(?P<word>[\w-]+(?:\.[\w-]+)*)|(?P<sign>[^\s"\w])""",
    re.DOTALL,
)
_TEXT = re.compile(
    r"""(?P<stop>["\n])|(?P<open>[$%]\{)|(?P<text>\$\$\{|%%\{|\\(?:u[\da-fA-F]{4}|U[\da-fA-F]{8}|.)|[^"\\\n$%]+|.)""",
    re.DOTALL,
)
_SHORT_ESCAPE = 2
_HEREDOC = re.compile(r"[$%]{2}\{|(?P<open>[$%]\{)|\n[ \t]*(?P<word>[\w-]+)[ \t]*(?=\r?(?:\n|\Z))")
_TOKENS = {"code": _CODE, "heredoc": _HEREDOC, "string": _TEXT, "template": _TEXT}


def _strings(text: str, first: _Frame) -> Iterator[_String]:
    """The string literals of a text, inner ones before those that they are in."""
    stack, at = [first], 0
    while at < len(text):
        kind = stack[-1].kind
        found = _TOKENS[kind].search(text, at)
        if found is None:
            break
        at = found.end()
        if kind == "code":
            _read_code(stack, found)
        elif kind == "heredoc":
            _read_heredoc(stack, found)
        elif (string := _read_text(stack, found)) is not None:
            yield string
    if first.kind == "template" and len(stack) == 1:
        yield _String(0, tuple(first.pieces))


def _read_text(stack: list[_Frame], found: "re.Match[str]") -> _String | None:
    """More of a string; gives it when that is its end. A string ends with its line at the latest."""
    frame = stack[-1]
    if found["open"]:
        stack.append(_Frame("code", found.start()))
    elif found["stop"] and frame.kind == "string":
        stack.pop()
        if found["stop"] == '"':
            outer = stack[-1]
            module = outer.in_module and outer.depth == 1
            string = _String(frame.start, tuple(frame.pieces), tuple(outer.last), module)
            outer.add(string)
            return string
    else:
        frame.pieces.append(_unescaped(found[0]))
    return None


def _unescaped(piece: str) -> str:
    if not piece.startswith("\\"):
        return piece
    if len(piece) > _SHORT_ESCAPE:
        digits = piece[2:]
        number = int(digits, 16)
        return chr(number) if number <= sys.maxunicode else piece
    return {"n": "\n", "r": "\r", "t": "\t"}.get(piece[1:], piece[1:])


def _read_heredoc(stack: list[_Frame], found: "re.Match[str]") -> None:
    if found["open"]:
        stack.append(_Frame("code", found.start()))
    elif found["word"] == stack[-1].end:
        stack.pop()


def _read_code(stack: list[_Frame], found: "re.Match[str]") -> None:
    frame = stack[-1]
    if found["quote"]:
        stack.append(_Frame("string", found.start()))
    elif found["heredoc"]:
        stack.append(_Frame("heredoc", found.start(), end=found["heredoc"]))
    elif found["word"]:
        frame.add(found["word"])
    elif found["sign"] == "}" and frame.depth == 0:
        if len(stack) > 1:
            stack.pop()
            stack[-1].pieces.append(frame.interpolated())
    elif found["sign"]:
        if found["sign"] == "{":
            if frame.depth == 0:
                frame.in_module = len(stack) == 1 and frame.last[-2:-1] == ["module"]
            frame.depth += 1
        elif found["sign"] == "}":
            frame.depth -= 1
        frame.add(found["sign"])


_JSON = re.compile(r'(?P<string>"(?:[^"\\]|\\.)*+")|(?P<sign>[{}\[\]:,])', re.DOTALL)


def _json_strings(text: str) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """Each string that is a value: where it starts, the first keys that lead to it, itself. Lists
    do not count as keys.
    """
    inside: list[tuple[str, tuple[str, ...]]] = []
    keys: tuple[str, ...] = ()
    key: str | None = None
    for found in _JSON.finditer(text):
        sign = found["sign"]
        if found["string"]:
            try:
                value = str(json.loads(found["string"], strict=False))
            except ValueError:
                continue
            if inside and inside[-1][0] == "{" and key is None:
                key = value
            else:
                yield found.start(), _longer(keys, key), value
        elif sign in {"{", "["}:
            inside.append((sign, keys))
            keys, key = _longer(keys, key), None
        elif sign in {"}", "]"} and inside:
            keys, key = inside.pop()[1], None
        elif sign == ",":
            key = None


def _longer(keys: tuple[str, ...], key: str | None) -> tuple[str, ...]:
    return keys if key is None or len(keys) > 3 else (*keys, key)
