"""`.dockerignore` as Docker's client reads it: which files of a build context are not sent.

Source: github.com/moby/patternmatcher, whose steps are followed one by one, its oddities included
(`**` that touches other characters, wildcards in brackets). Docker compiles each pattern to a
regular expression of Go, which never backtracks; Python's would, so patterns are matched here by
following all positions at once, as bits of one number.
"""

import posixpath
import re
import string
from collections.abc import Callable, Iterable, Iterator

import msgspec

from cipipe.errors import UsageError

NAME = ".dockerignore"

_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"

# Go's filepath.Match, as far as it says whether a pattern is well formed.
_ITEM = r"(?:\\.|[^\]\-\\])"
_WELL_FORMED = re.compile(rf"(?:[^\[\\]|\\.|\[\^?+(?:{_ITEM}(?:-{_ITEM})?)+\])*", re.DOTALL)

_WILD = re.compile(r"[*?\[\]\\]")

_NOT_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*(?:\||\{\d+(?:,\d*)?\})")
"""What Docker's client forgets to escape when it writes an expression (`shouldEscape`)."""


def file_for(dockerfile: str) -> str:
    """The name of the ignore file that is a Dockerfile's own, and takes precedence over
    `.dockerignore`.
    """
    return f"{dockerfile}{NAME}"


class Pattern(msgspec.Struct, frozen=True):
    """One pattern, as a comparison of strings or as positions; an `exception` (`!`) takes back
    what earlier ones left out.
    """

    exception: bool
    compared: Callable[[str], bool] | None
    positions: "_Positions | None"


def patterns(body: bytes, *, name: str = NAME) -> list[Pattern]:
    """The patterns of an ignore file, in order. Raises UsageError where Docker's client refuses
    one.
    """
    text = body.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
    found: list[Pattern] = []
    for number, line in enumerate(text.split("\n"), 1):
        pattern = "" if line.startswith("#") else _read(line)
        if not pattern:
            continue
        try:
            found.append(_checked(pattern))
        except ValueError as error:
            raise UsageError(
                "image-bad-dockerignore",
                f"{name} has a pattern that cannot be read: {line.strip()!r}: {error}",
                hint="Correct the line. Nothing was built, because files meant to be left out might get into the image.",
                where=f"{name}:{number}",
            ) from error
    return found


def ignored(found: list[Pattern], paths: Iterable[str]) -> set[str]:
    """Those of the paths that the patterns leave out. The last pattern that matches a file or a
    folder above it wins.
    """
    left_out: set[str] = set()
    top = _Folder(
        0, [False] * len(found), [pattern.positions.first if pattern.positions else None for pattern in found]
    )
    folders: dict[str, _Folder] = {}
    for path in paths if found else ():
        above = top
        for slash in (at for at, char in enumerate(path) if char == "/"):
            folder = path[:slash]
            if folder not in folders:
                folders[folder] = _look(found, folder, above)[1]
            above = folders[folder]
        if _look(found, path, above)[0]:
            left_out.add(path)
    return left_out


class _Folder(msgspec.Struct, frozen=True):
    """How far matching got with a path of this length: patterns that matched it or a folder above,
    and their positions.
    """

    length: int
    matched: list[bool]
    reached: list["_Reached | None"]


def _look(found: list[Pattern], path: str, above: _Folder) -> tuple[bool, _Folder]:
    """As `MatchesUsingParentResults`: whether a path is left out, and what its own entries
    inherit.
    """
    left_out, matched, reached = False, list(above.matched), list(above.reached)
    for number, pattern in enumerate(found):
        before = above.reached[number]
        if pattern.positions is not None and before is not None:
            reached[number] = pattern.positions.after(before, path[above.length :])
        if not matched[number]:
            if pattern.exception is not left_out:
                continue
            matched[number] = _matches(pattern, path, reached[number])
        if matched[number]:
            left_out = not pattern.exception
    return left_out, _Folder(len(path), matched, reached)


def _matches(pattern: Pattern, path: str, reached: "_Reached | None") -> bool:
    if pattern.compared is not None:
        return pattern.compared(path)
    return pattern.positions is not None and reached is not None and pattern.positions.at_end(reached)


def matching(pattern: str, names: Iterable[str], *, below: bool = False) -> set[str]:
    """The names that one pattern matches; with `below`, also those in a folder that it matches.
    None if it cannot be read.
    """
    try:
        found = _compiled(_clean(pattern), exception=False)
    except ValueError:
        return set()
    if below:
        return ignored([found], names)
    first = found.positions.first if found.positions else None
    ends = {name: found.positions.after(first, name) if found.positions and first else None for name in names}
    return {name for name, end in ends.items() if _matches(found, name, end)}


def line_for(name: str) -> str:
    """A pattern that means exactly this file."""
    return re.sub(r"[*?\[\]\\!#]", r"\\\g<0>", name)


def _read(line: str) -> str:
    """One line, as `ignorefile.ReadAll` hands it on."""
    pattern = line.strip(_SPACE)
    exception = "!" if pattern.startswith("!") else ""
    pattern = pattern.removeprefix("!").strip(_SPACE)
    if pattern:
        pattern = _clean(pattern)
        pattern = pattern.removeprefix("/") or pattern
    return exception + pattern


def _checked(text: str) -> Pattern:
    """One pattern, as `patternmatcher.New` takes it. Raises ValueError."""
    pattern = _clean(text.strip(_SPACE))
    exception = pattern.startswith("!")
    pattern = pattern.removeprefix("!")
    if not pattern:
        message = "an exception needs a pattern after the `!`"
        raise ValueError(message)
    return _compiled(pattern, exception=exception)


def _compiled(pattern: str, *, exception: bool) -> Pattern:
    if not _WELL_FORMED.fullmatch(pattern):
        message = "a bracket is not closed, or a backslash has nothing after it"
        raise ValueError(message)
    compared = _comparison(pattern)
    return Pattern(exception, compared, None if compared else _Positions(list(_parts(_translated(pattern)))))


def _comparison(pattern: str) -> Callable[[str], bool] | None:
    """Docker compares strings where a pattern allows it, which is not the same as matching its
    expression.
    """
    if not _WILD.search(pattern):
        return lambda path: path == pattern
    beginning, ending = pattern[:-2], pattern[2:]
    if beginning and pattern.endswith("**") and not _WILD.search(beginning):
        return lambda path: path.startswith(beginning)
    if pattern.startswith("**") and not _WILD.search(ending):
        return lambda path: path.endswith(ending) or (ending.startswith("/") and path == ending[1:])
    if _NOT_ESCAPED.search(pattern):
        message = "Docker takes `|` and `{1}` beside wildcards for an expression; write a backslash before them"
        raise ValueError(message)
    return None


def _clean(path: str) -> str:
    """Go's filepath.Clean, which has no meaning for two slashes at the start."""
    return re.sub(r"\A//", "/", posixpath.normpath(path))


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


_DIGITS, _WORD, _BLANKS = frozenset(string.digits), frozenset(string.ascii_letters + string.digits + "_"), "\t\n\f\r "
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
        if expression[at : at + 1] == "-" and expression[at + 1 : at + 2] != "]" and isinstance(low, str):
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


_Reached = tuple[int, int]
"""Positions, and those of them that are inside of `(.*/)?`."""


class _Positions:
    """Follows all ways through an expression at once: bit i says that the parts before part i have
    matched.
    """

    def __init__(self, parts: list[_Part]) -> None:
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
        self.first: _Reached = (_through(1, self._skipped | starts), 0)

    def after(self, reached: _Reached, text: str) -> _Reached:
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

    def at_end(self, reached: _Reached) -> bool:
        return bool(reached[0] & self._end)

    def _takers(self, char: str) -> int:
        """The parts that take this character."""
        if char not in self._taken:
            found = self._literals.get(char, 0)
            self._taken[char] = found | sum(bits for test, bits in self._tests.items() if test(char))
        return self._taken[char]


def _through(here: int, skipped: int) -> int:
    """The positions, and all that can be reached over parts that may take nothing: a carry runs
    through each row of them.
    """
    return ((skipped + (here & skipped)) ^ skipped) | here


def _as_go_reads(text: str) -> str:
    """Go's expressions take each byte that is no UTF-8 for U+FFFD."""
    return re.sub(r"[\udc80-\udcff]", "\ufffd", text)
