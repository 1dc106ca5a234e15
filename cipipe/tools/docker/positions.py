"""A pattern of `.dockerignore` that has wildcards, matched in linear time.

Docker compiles each pattern to a regular expression of Go, which never backtracks; Python's would,
so all positions in a pattern are followed at once, as bits of one number.
Source: github.com/moby/patternmatcher, golang.org/s/re2syntax.
"""

import re
import string
from collections.abc import Callable, Iterator

import msgspec

_Test = Callable[[str], bool]


class _Part(msgspec.Struct, frozen=True):
    """One part of an expression. `test` takes one character; `any_folders` is `(.*/)?`; `start` is
    `^`, which takes none and holds at the start.
    """

    test: _Test | None = None
    literal: str = ""
    many: bool = False
    any_folders: bool = False
    start: bool = False


def _not_slash(char: str) -> bool:
    return char != "/"


def _not_newline(char: str) -> bool:
    return char != "\n"


def _translated(pattern: str) -> str:
    """The expression that `Pattern.compile` makes, between its anchors."""
    made, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern[at : at + 1] == "*":
            at += 2 if pattern[at + 1 : at + 2] == "/" else 1
            made += "(.*/)?" if at < len(pattern) else ".*"
        elif char == "*":
            made += "[^/]*"
        elif char == "?":
            made += "[^/]"
        elif char == "\\":
            made += char + pattern[at : at + 1]
            at += 1
        else:
            made += f"\\{char}" if char in ".+()|{}$" else char
    return made


def _parts(expression: str) -> Iterator[_Part]:
    """The expression's parts. What stands there raw is what `_translated` wrote, brackets, and
    `^`.
    """
    at = 0
    while at < len(expression):
        char = expression[at]
        if expression.startswith("(.*/)?", at):
            yield _Part(any_folders=True)
            at += len("(.*/)?")
        elif expression.startswith(".*", at):
            yield _Part(_not_newline, many=True)
            at += 2
        elif expression.startswith("[^/]", at):
            many = expression[at + 4 : at + 5] == "*"
            yield _Part(_not_slash, many=many)
            at += 4 + many
        elif char == "[":
            test, at = _bracket(expression, at + 1)
            many = expression[at : at + 1] == "*"
            yield _Part(test, many=many)
            at += many
        elif char == "\\":
            taken, at = _escape(expression, at + 1)
            yield _Part(taken) if callable(taken) else _Part(literal=taken)
        elif char == "^":
            yield _Part(start=True)
            at += 1
        else:
            yield _Part(literal=char)
            at += 1


_DIGITS, _WORD, _BLANKS = (
    frozenset(string.digits),
    frozenset(string.ascii_letters + string.digits + "_"),
    "\t\n\f\r ",
)
_CLASSES: dict[str, frozenset[str]] = {"d": _DIGITS, "w": _WORD, "s": frozenset(_BLANKS)}
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ASCII = frozenset(map(chr, range(128)))
_POSIX = {
    "alnum": _WORD - {"_"},
    "alpha": frozenset(string.ascii_letters),
    "ascii": _ASCII,
    "blank": frozenset("\t "),
    "cntrl": frozenset(map(chr, [*range(32), 127])),
    "digit": _DIGITS,
    "graph": frozenset(map(chr, range(33, 127))),
    "lower": frozenset(string.ascii_lowercase),
    "print": frozenset(map(chr, range(32, 127))),
    "punct": frozenset(string.punctuation),
    "space": frozenset(_BLANKS + "\v"),
    "upper": frozenset(string.ascii_uppercase),
    "word": _WORD,
    "xdigit": frozenset(string.hexdigits),
}


def _escape(expression: str, at: int) -> tuple[str | _Test, int]:
    """What stands behind a backslash: a character, or a class such as `\\d`, which a pattern gets
    by accident.
    """
    char = expression[at : at + 1]
    if char.isascii() and char and not char.isalnum():
        return char, at + 1
    if char in _CONTROLS:
        return _CONTROLS[char], at + 1
    known = _CLASSES.get(char.lower()) if char else None
    if known is None:
        message = f"`\\{char}` has no meaning; folders are separated by `/`"
        raise ValueError(message)
    return (known.__contains__ if char.islower() else _outside(known)), at + 1


def _outside(known: frozenset[str]) -> _Test:
    return lambda char: char not in known


def _between(low: str, high: str) -> _Test:
    return lambda char: low <= char <= high


def _bracket(expression: str, at: int) -> tuple[_Test, int]:
    """A class of characters, from behind its bracket to behind the one that closes it."""
    negated = expression[at : at + 1] == "^"
    at += negated
    tests: list[_Test] = []
    first = at
    while expression[at : at + 1] != "]" or at == first:
        named = re.compile(r"\[:(\^?)(\w+):\]").match(expression, at)
        if named is not None:
            known = _POSIX.get(named[2])
            if known is None:
                message = f"{named[0]} is not a character class"
                raise ValueError(message)
            tests.append(_outside(known) if named[1] else known.__contains__)
            at = named.end()
            continue
        low, at = _end_of_range(expression, at)
        high = low
        if (
            expression[at : at + 1] == "-"
            and expression[at + 1 : at + 2] != "]"
            and isinstance(low, str)
        ):
            high, at = _end_of_range(expression, at + 1)
        if not isinstance(low, str):
            tests.append(low)
        elif not isinstance(high, str) or low > high:
            message = "a range in brackets runs backwards"
            raise ValueError(message)
        else:
            tests.append(_between(low, high))
    return lambda char: any(test(char) for test in tests) is not negated, at + 1


def _end_of_range(expression: str, at: int) -> tuple[str | _Test, int]:
    char = expression[at : at + 1]
    if not char:
        message = "a bracket is not closed"
        raise ValueError(message)
    return _escape(expression, at + 1) if char == "\\" else (char, at + 1)


Reached = tuple[int, int]
"""Positions, and those of them that are inside of `(.*/)?`."""


class Positions:
    """Follows all ways through an expression at once: bit i says that the parts before part i have
    matched.
    """

    def __init__(self, pattern: str) -> None:
        """Raises ValueError where Docker's client would refuse the expression."""
        parts = list(_parts(_translated(pattern)))
        self._end = 1 << len(parts)
        bits = [(part, 1 << number) for number, part in enumerate(parts)]
        self._many = sum(bit for part, bit in bits if part.many)
        self._folders = sum(bit for part, bit in bits if part.any_folders)
        self._skipped = self._many | self._folders
        starts = sum(bit for part, bit in bits if part.start)
        self._literals: dict[str, int] = {}
        self._tests: dict[_Test, int] = {}
        for part, bit in bits:
            if part.literal:
                literal = _as_go_reads(part.literal)
                self._literals[literal] = self._literals.get(literal, 0) | bit
            if part.test is not None:
                self._tests[part.test] = self._tests.get(part.test, 0) | bit
        self._taken: dict[str, int] = {}
        self.first: Reached = (_through(1, self._skipped | starts), 0)

    def after(self, reached: Reached, text: str) -> Reached:
        """Where these positions get with more of a path."""
        here, inside = reached
        for char in _as_go_reads(text):
            if not here and not inside:
                break
            taken = here & self._takers(char)
            inside |= here & self._folders
            here = (taken & self._many) | ((taken & ~self._many) << 1)
            if char == "/":
                here |= inside << 1
            elif char == "\n":
                inside = 0
            here = _through(here, self._skipped)
        return here, inside

    def at_end(self, reached: Reached) -> bool:
        return bool(reached[0] & self._end)

    def _takers(self, char: str) -> int:
        """The parts that take this character."""
        if char not in self._taken:
            found = self._literals.get(char, 0)
            self._taken[char] = found | sum(
                bits for test, bits in self._tests.items() if test(char)
            )
        return self._taken[char]


def _through(here: int, skipped: int) -> int:
    """The positions, and all that can be reached over parts that may take nothing: a carry runs
    through each row of them.
    """
    return ((skipped + (here & skipped)) ^ skipped) | here


def _as_go_reads(text: str) -> str:
    """Go's expressions take each byte that is no UTF-8 for U+FFFD."""
    return re.sub(r"[\udc80-\udcff]", "\ufffd", text)
