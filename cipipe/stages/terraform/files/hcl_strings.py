"""The string literals of Terraform files, each with the tokens before it.

The text is read once, from front to back, with a stack for nesting: a `"`
inside of `${ }` starts a string of its own. Source:
developer.hashicorp.com/terraform/language/syntax.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Union


class StringLiteral(NamedTuple):
    # Its offset in the text.
    at: int
    # Text; or `${word}` for an interpolation of a single word; None for any
    # other interpolation.
    pieces: tuple[str | None, ...]
    # Up to four tokens before it, the nearest one last.
    before: tuple["Token", ...] = ()
    # It is an attribute's value directly inside a `module` block.
    in_module: bool = False


Token = Union[str, StringLiteral]  # noqa: UP007 - StringLiteral uses it before it is defined


def string_literals(text: str) -> Iterator[StringLiteral]:
    """Those of a `*.tf` file, inner ones before those that they are in."""
    yield from _read(text, _Frame("code"))


def template_literals(text: str) -> Iterator[StringLiteral]:
    """Those of a string in a `*.tf.json` file, which is a template itself and comes last."""
    yield from _read(text, _Frame("template"))


def json_strings(text: str) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """Each string of a JSON text that is a value: its offset, the first
    keys that lead to it, and the string. Positions in lists are no keys.

    Broken JSON gives what can be read of it.
    """
    # The brackets around the current position, each with the keys that lead
    # to it.
    open_brackets: list[tuple[str, tuple[str, ...]]] = []
    keys: tuple[str, ...] = ()
    key: str | None = None

    for found in _JSON.finditer(text):
        sign = found["sign"]
        if found["string"]:
            try:
                value = str(json.loads(found["string"], strict=False))
            except ValueError:
                continue
            if open_brackets and open_brackets[-1][0] == "{" and key is None:
                key = value
            else:
                yield found.start(), _extended(keys, key), value
        elif sign in {"{", "["}:
            open_brackets.append((sign, keys))
            keys = _extended(keys, key)
            key = None
        elif sign in {"}", "]"} and open_brackets:
            _, keys = open_brackets.pop()
            key = None
        elif sign == ",":
            key = None


_JSON = re.compile(r'(?P<string>"(?:[^"\\]|\\.)*+")|(?P<sign>[{}\[\]:,])', re.DOTALL)


def _extended(keys: tuple[str, ...], key: str | None) -> tuple[str, ...]:
    # Nobody needs more than four, and deep nesting must not cost quadratic
    # memory.
    return keys if key is None or len(keys) > 3 else (*keys, key)


@dataclass
class _Frame:
    """One level of nesting."""

    # `code`, a `string`, a `heredoc`, or a `template`, which is the whole
    # text.
    kind: str
    start: int = 0
    # The word that closes a heredoc.
    end: str = ""
    # Of code: how many braces are open, and whether the outermost are those
    # of a module.
    depth: int = 0
    in_module: bool = False
    # Of code: how many tokens there were, and the last four.
    tokens: int = 0
    last: list[Token] = field(default_factory=list)
    # Of a string.
    pieces: list[str | None] = field(default_factory=list)

    def add(self, token: Token) -> None:
        self.tokens += 1
        self.last = [*self.last[-3:], token]

    def as_piece(self) -> str | None:
        """The code inside of `${ }` as a piece of the string around it."""
        only = self.last[0] if self.tokens == 1 else None
        return f"${{{only}}}" if isinstance(only, str) else None


_CODE = re.compile(
    r"""(?:\#|//)[^\n]*|/\*.*?(?:\*/|\Z)|<<-?[ \t]*(?P<heredoc>[\w-]+)[ \t]*\r?(?=\n)"""
    r"""|(?P<quote>")|(?P<word>[\w-]+(?:\.[\w-]+)*)|(?P<sign>[^\s"\w])""",
    re.DOTALL,
)
_TEXT = re.compile(
    r"""(?P<stop>["\n])|(?P<open>[$%]\{)"""
    r"""|(?P<text>\$\$\{|%%\{|\\(?:u[\da-fA-F]{4}|U[\da-fA-F]{8}|.)|[^"\\\n$%]+|.)""",
    re.DOTALL,
)
_HEREDOC = re.compile(r"[$%]{2}\{|(?P<open>[$%]\{)|\n[ \t]*(?P<word>[\w-]+)[ \t]*(?=\r?(?:\n|\Z))")
_TOKENS = {"code": _CODE, "heredoc": _HEREDOC, "string": _TEXT, "template": _TEXT}

_SHORT_ESCAPE = 2
"""Characters of an escape such as `\\n`; the others are `\\uNNNN` and `\\UNNNNNNNN`."""


def _read(text: str, first: _Frame) -> Iterator[StringLiteral]:
    stack = [first]
    at = 0
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
        yield StringLiteral(0, tuple(first.pieces))


def _read_text(stack: list[_Frame], found: "re.Match[str]") -> StringLiteral | None:
    """Read a token of a string; returns the string if this token closes it."""
    frame = stack[-1]
    if found["open"]:
        stack.append(_Frame("code", found.start()))
    elif found["stop"] and frame.kind == "string":
        # A line break closes a string too, without a value: Terraform
        # refuses such a file.
        stack.pop()
        if found["stop"] == '"':
            outer = stack[-1]
            string = StringLiteral(
                at=frame.start,
                pieces=tuple(frame.pieces),
                before=tuple(outer.last),
                in_module=outer.in_module and outer.depth == 1,
            )
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
        # It closes the `${` around this code. At the top of the file it is
        # a mistake.
        if len(stack) > 1:
            stack.pop()
            stack[-1].pieces.append(frame.as_piece())
    elif found["sign"]:
        if found["sign"] == "{":
            if frame.depth == 0:
                frame.in_module = len(stack) == 1 and frame.last[-2:-1] == ["module"]
            frame.depth += 1
        elif found["sign"] == "}":
            frame.depth -= 1
        frame.add(found["sign"])
