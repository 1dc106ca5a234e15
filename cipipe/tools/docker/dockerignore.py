"""`.dockerignore` as Docker's client reads it: which files of a build
context are not sent.

Follows https://github.com/moby/patternmatcher step by step, with its
oddities (`**` that touches other characters, wildcards in brackets).
"""

import posixpath
import re
from collections.abc import Callable, Iterable

import msgspec

from cipipe.errors import UsageError
from cipipe.tools.docker.positions import Positions, Reached

NAME = ".dockerignore"

# What Go's strings.TrimSpace removes; Python's strip removes more.
_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)

# What Go's filepath.Match accepts as a pattern.
_ITEM = r"(?:\\.|[^\]\-\\])"
_WELL_FORMED = re.compile(rf"(?:[^\[\\]|\\.|\[\^?+(?:{_ITEM}(?:-{_ITEM})?)+\])*", re.DOTALL)

_WILD = re.compile(r"[*?\[\]\\]")

# What Docker's client forgets to escape when it writes an expression
# (`shouldEscape`).
_NOT_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*(?:\||\{\d+(?:,\d*)?\})")


def file_for(dockerfile: str) -> str:
    """The name of a Dockerfile's own ignore file, which comes before `.dockerignore`."""
    return f"{dockerfile}{NAME}"


class Pattern(msgspec.Struct, frozen=True):
    """One pattern. It is either a comparison of strings or an expression with positions."""

    # Starts with `!`: it includes again what earlier patterns left out.
    exception: bool
    compared: Callable[[str], bool] | None
    positions: Positions | None


def patterns(body: bytes, *, name: str = NAME) -> list[Pattern]:
    """The patterns of an ignore file, in order.

    Raises UsageError for one that Docker's client refuses.
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
                hint="Correct the line. Nothing was built, because files meant to be left out "
                "might get into the image.",
                where=f"{name}:{number}",
            ) from error
    return found


def ignored(found: list[Pattern], paths: Iterable[str]) -> set[str]:
    """Those of the paths that the patterns leave out.

    The last pattern that matches a file, or a folder above it, wins.
    """
    left_out: set[str] = set()
    top = _Folder(
        0,
        [False] * len(found),
        [pattern.positions.first if pattern.positions else None for pattern in found],
    )
    # Matching goes on from a folder to its entries, so that each part of a
    # path is read once.
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
    """How far matching got at the end of a folder's path."""

    # Of the path.
    length: int
    # By pattern: whether it matched the folder, or one above it.
    matched: list[bool]
    # By pattern: its positions, where it has any.
    reached: list[Reached | None]


def _look(found: list[Pattern], path: str, above: _Folder) -> tuple[bool, _Folder]:
    """Whether a path is left out, and what its entries inherit (`MatchesUsingParentResults`)."""
    left_out = False
    matched = list(above.matched)
    reached = list(above.reached)
    for number, pattern in enumerate(found):
        before = above.reached[number]
        if pattern.positions is not None and before is not None:
            reached[number] = pattern.positions.after(before, path[above.length :])
        if not matched[number]:
            # A pattern that could not change the result is not tried.
            if pattern.exception is not left_out:
                continue
            matched[number] = _matches(pattern, path, reached[number])
        if matched[number]:
            left_out = not pattern.exception
    return left_out, _Folder(len(path), matched, reached)


def _matches(pattern: Pattern, path: str, reached: Reached | None) -> bool:
    if pattern.compared is not None:
        return pattern.compared(path)
    return (
        pattern.positions is not None and reached is not None and pattern.positions.at_end(reached)
    )


def matching(pattern: str, names: Iterable[str], *, below: bool = False) -> set[str]:
    """The names that one pattern matches; with `below`, also those in a
    folder that it matches.

    Empty for a malformed pattern.
    """
    try:
        found = _compiled(_clean(pattern), exception=False)
    except ValueError:
        return set()
    if below:
        return ignored([found], names)
    first = found.positions.first if found.positions else None
    ends = {
        name: found.positions.after(first, name) if found.positions and first else None
        for name in names
    }
    return {name for name, end in ends.items() if _matches(found, name, end)}


def line_for(name: str) -> str:
    """A pattern that means exactly this file."""
    return re.sub(r"[*?\[\]\\!#]", r"\\\g<0>", name)


def _read(line: str) -> str:
    """One line, as `ignorefile.ReadAll` returns it."""
    pattern = line.strip(_SPACE)
    exception = "!" if pattern.startswith("!") else ""
    pattern = pattern.removeprefix("!").strip(_SPACE)
    if pattern:
        pattern = _clean(pattern)
        pattern = pattern.removeprefix("/") or pattern
    return exception + pattern


def _checked(text: str) -> Pattern:
    """One pattern, as `patternmatcher.New` parses it. Raises ValueError."""
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
    return Pattern(exception, compared, None if compared else Positions(pattern))


def _comparison(pattern: str) -> Callable[[str], bool] | None:
    """The comparison of strings that Docker uses for a simple pattern; None
    for any other.

    The result is not always that of the pattern's expression.
    """
    if not _WILD.search(pattern):
        return lambda path: path == pattern
    beginning = pattern[:-2]
    ending = pattern[2:]
    if beginning and pattern.endswith("**") and not _WILD.search(beginning):
        return lambda path: path.startswith(beginning)
    if pattern.startswith("**") and not _WILD.search(ending):
        return lambda path: path.endswith(ending) or (ending.startswith("/") and path == ending[1:])
    if _NOT_ESCAPED.search(pattern):
        message = (
            "Docker reads `|` and `{1}` beside wildcards as an expression; write a backslash "
            "before them"
        )
        raise ValueError(message)
    return None


def _clean(path: str) -> str:
    """Go's filepath.Clean. Unlike Python's, it has no meaning for two slashes at the start."""
    return re.sub(r"\A//", "/", posixpath.normpath(path))
