"""A pattern of `.dockerignore` with wildcards, matched in linear time.

Docker compiles each pattern to a regular expression of Go, which never backtracks. Python's would,
so all positions in a pattern are followed at once, as bits of one number.
https://github.com/moby/patternmatcher, https://golang.org/s/re2syntax
"""

import re
import string
from collections.abc import Callable, Iterator

import msgspec

_Test = Callable[[str], bool]


class _Token(msgspec.Struct, frozen=True, kw_only=True):
    """One token of an expression: a test, a literal, `(.*/)?` or `^`."""

    # Matches one character.
    test: _Test | None = None
    literal: str = ""
    # Whether the test may match any number of characters.
    many: bool = False
    # `(.*/)?`
    any_folders: bool = False
    # `^`: matches no character, at the start only.
    start: bool = False


def _not_slash(char: str) -> bool:
    return char != "/"


def _not_newline(char: str) -> bool:
    return char != "\n"


def _translated(pattern: str) -> str:
    """The expression that `Pattern.compile` makes, between its anchors."""
    made = ""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern[at : at + 1] == "*":
            # `**/` is any folders; `**` elsewhere is anything, slashes
            # included.
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


def _tokens(expression: str) -> Iterator[_Token]:
    """The expression's tokens. Only what `_translated` wrote, brackets and `^` are not escaped."""
    at = 0
    while at < len(expression):
        char = expression[at]
        if expression.startswith("(.*/)?", at):
            yield _Token(any_folders=True)
            at += len("(.*/)?")
        elif expression.startswith(".*", at):
            yield _Token(test=_not_newline, many=True)
            at += 2
        elif expression.startswith("[^/]", at):
            many = expression[at + 4 : at + 5] == "*"
            yield _Token(test=_not_slash, many=many)
            at += 4 + many
        elif char == "[":
            test, at = _bracket(expression, at + 1)
            many = expression[at : at + 1] == "*"
            yield _Token(test=test, many=many)
            at += many
        elif char == "\\":
            found, at = _escape(expression, at + 1)
            yield _Token(test=found) if callable(found) else _Token(literal=found)
        elif char == "^":
            yield _Token(start=True)
            at += 1
        else:
            yield _Token(literal=char)
            at += 1


# Go's classes have ASCII characters only, unlike Python's.
_DIGITS = frozenset(string.digits)
_WORD = frozenset(string.ascii_letters + string.digits + "_")
_BLANKS = "\t\n\f\r "
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
    """The character or class (such as `\\d`, which a pattern has by
    accident) after a backslash.

    And where the text after it starts.
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
    """A class of characters whose text starts at `at`, after its bracket; and where it ends."""
    negated = expression[at : at + 1] == "^"
    at += negated
    tests: list[_Test] = []
    # A `]` that comes first is an ordinary character.
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
"""Positions, and those of them that are inside `(.*/)?`."""


class Positions:
    """Follows all ways through an expression at once.

    Bit i of a number of positions says that the tokens before token i have
    matched.
    """

    def __init__(self, pattern: str) -> None:
        """Raises ValueError where Docker's client would refuse the expression."""
        tokens = list(_tokens(_translated(pattern)))
        self._end = 1 << len(tokens)
        bits = [(token, 1 << number) for number, token in enumerate(tokens)]
        self._many = sum(bit for token, bit in bits if token.many)
        self._folders = sum(bit for token, bit in bits if token.any_folders)
        # Tokens that may match nothing.
        self._optional = self._many | self._folders
        starts = sum(bit for token, bit in bits if token.start)
        self._literals: dict[str, int] = {}
        self._tests: dict[_Test, int] = {}
        for token, bit in bits:
            if token.literal:
                literal = _as_go_reads(token.literal)
                self._literals[literal] = self._literals.get(literal, 0) | bit
            if token.test is not None:
                self._tests[token.test] = self._tests.get(token.test, 0) | bit
        # What `_matching` found, by character.
        self._known: dict[str, int] = {}
        self.first: Reached = (_skip(1, self._optional | starts), 0)

    def after(self, reached: Reached, text: str) -> Reached:
        """The positions after more of a path."""
        here, inside = reached
        for char in _as_go_reads(text):
            if not here and not inside:
                break
            matched = here & self._matching(char)
            inside |= here & self._folders
            # A token that matches many characters stays; any other passes
            # on to the next one.
            here = (matched & self._many) | ((matched & ~self._many) << 1)
            if char == "/":
                here |= inside << 1
            elif char == "\n":
                # `.` does not match a line end.
                inside = 0
            here = _skip(here, self._optional)
        return here, inside

    def at_end(self, reached: Reached) -> bool:
        return bool(reached[0] & self._end)

    def _matching(self, char: str) -> int:
        """The tokens that match this character."""
        if char not in self._known:
            literals = self._literals.get(char, 0)
            tests = sum(bits for test, bits in self._tests.items() if test(char))
            self._known[char] = literals | tests
        return self._known[char]


def _skip(here: int, optional: int) -> int:
    """The positions, and all that are reached by skipping optional tokens.

    In the sum a carry runs through each row of optional tokens that follow
    each other, which is what skipping them one by one would do.
    """
    return ((optional + (here & optional)) ^ optional) | here


def _as_go_reads(text: str) -> str:
    """Replace bytes that are not UTF-8 by U+FFFD, as Go's expressions read them."""
    return re.sub(r"[\udc80-\udcff]", "\ufffd", text)
