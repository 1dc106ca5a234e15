"""Patterns over repository paths: `*` and `?` stay inside a segment, `**` crosses segments, `!`
takes away.

Everything is bytes, because git's paths are; a name may hold line breaks and invalid UTF-8. No
library gives exactly these semantics over bytes (docs/decisions/0002-path-patterns.md).
"""

import re
from collections.abc import Iterable
from functools import cached_property

_WILD = re.compile(rb"[*?]")
_ANYTHING = {b"*", b"**"}


class Patterns:
    """A stage's `paths`. A path matches when a plain pattern matches it and no `!` pattern does."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.texts = tuple(patterns)
        encoded = [pattern.encode() for pattern in self.texts]
        self._plain = [p for p in encoded if not p.startswith(b"!")]
        self._taken = [p[1:] for p in encoded if p.startswith(b"!")]
        self._names: dict[tuple[tuple[bytes, ...], tuple[bytes, ...]], re.Pattern[bytes]] = {}

    def matches(self, path: bytes) -> bool:
        return (
            self._plain_regex.fullmatch(path) is not None
            and self._taken_regex.fullmatch(path) is None
        )

    def matches_link(self, path: bytes) -> bool:
        """Whether a submodule or symlink counts: a pattern names it, or what is below it, and no
        `!` pattern does.
        """
        below = path + b"/-"
        plain = any(self._plain_regex.fullmatch(p) for p in (path, below))
        return plain and not any(self._taken_regex.fullmatch(p) for p in (path, below))

    def names(self, path: bytes) -> bool:
        """Whether a plain pattern matches, whatever `!` patterns take away: what they do was left
        out on purpose.
        """
        return self._plain_regex.fullmatch(path) is not None

    def names_in(self, folder: bytes) -> re.Pattern[bytes] | None:
        """What the names of the files in one folder (`b""`, or ending with a slash) match that the
        patterns match.

        For many files this costs a fraction of `matches`. None where nothing in the folder matches.
        """
        plain, taken = self._segments(folder)
        if not plain:
            return None
        if (plain, taken) not in self._names:
            wanted, left_out = (
                b"|".join(_name(segment) for segment in some) for some in (plain, taken)
            )
            refused = b"(?!(?:" + left_out + b")\\Z)" if taken else b""
            self._names[plain, taken] = re.compile(refused + b"(?:" + wanted + b")", re.DOTALL)
        return self._names[plain, taken]

    def endings_in(self, folder: bytes) -> tuple[bytes, ...] | None:
        """The endings of the names in one folder that do not match, where that is all that can be
        said of those that do.

        As of `dbt/models/` for `dbt/**` and `!dbt/**/*.md`. To look at the ending takes half the
        time of `names_in`.
        """
        plain, taken = self._segments(folder)
        if not _ANYTHING.isdisjoint(plain) and all(
            t.startswith(b"*") and not _WILD.search(t[1:]) for t in taken
        ):
            return tuple(segment[1:] for segment in taken)
        return None

    def _segments(self, folder: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """What the plain and the `!` patterns say of the names right in a folder: their last
        segments.
        """
        plain, taken = (
            tuple(dict.fromkeys(s for above, s in split if above.fullmatch(folder)))
            for split in self._split
        )
        return plain, taken

    @cached_property
    def _split(
        self,
    ) -> tuple[list[tuple[re.Pattern[bytes], bytes]], list[tuple[re.Pattern[bytes], bytes]]]:
        """Of the plain and of the `!` patterns: what matches a folder, and the segment for the
        names right in it.
        """
        return [_halves(p) for p in self._plain], [_halves(p) for p in self._taken]

    @cached_property
    def folders(self) -> tuple[bytes, ...]:
        """The folders that count whole, so that the id of one tree stands for all that is below."""
        whole = {p[:-3] for p in self._plain if p.endswith(b"/**") and not _WILD.search(p[:-3])}
        whole = {folder for folder in whole if not any(_may_meet(t, folder) for t in self._taken)}
        return tuple(
            sorted(f for f in whole if not any(f.startswith(other + b"/") for other in whole))
        )

    @cached_property
    def prefixes(self) -> tuple[bytes, ...]:
        """Folders or files below which all other matches lie; `b""` is the whole tree."""
        rest = [
            p
            for p in self._plain
            if not any(p.startswith(folder + b"/") for folder in self.folders)
        ]
        found = {_literal_prefix(p) for p in rest}
        if b"" in found:
            return (b"",)
        return tuple(
            sorted(f for f in found if not any(f.startswith(other + b"/") for other in found))
        )

    @cached_property
    def _plain_regex(self) -> re.Pattern[bytes]:
        return _regex(self._plain)

    @cached_property
    def _taken_regex(self) -> re.Pattern[bytes]:
        return _regex(self._taken)


def complaint(pattern: str) -> str | None:
    """What is wrong with a pattern, or None."""
    body = pattern.removeprefix("!")
    segments = body.split("/")
    if not body:
        return "is empty"
    if body.startswith("/"):
        return "starts with a slash; paths start at the top of the repository without one"
    if body.endswith("/"):
        return f"ends with a slash; everything below a folder is {body}**"
    if any(segment in {"", ".", ".."} for segment in segments):
        return "has an empty, `.` or `..` segment, which no repository path has"
    if any("**" in segment and segment != "**" for segment in segments):
        return "has `**` beside other characters; it has to stand alone between slashes"
    return None


def _regex(patterns: list[bytes]) -> re.Pattern[bytes]:
    if not patterns:
        return re.compile(rb"(?!)")
    return re.compile(rb"|".join(b"(?:" + _translate(p) + b")" for p in patterns), re.DOTALL)


def _translate(pattern: bytes) -> bytes:
    *before, last = pattern.split(b"/")
    if last != b"**":
        return _above(before) + _segment(last)
    while before and before[-1] == b"**":
        before.pop()
    return _above(before) + b".+"


def _halves(pattern: bytes) -> tuple[re.Pattern[bytes], bytes]:
    *before, last = pattern.split(b"/")
    above = _above([*before, last] if last == b"**" else before)
    return re.compile(above, re.DOTALL), last


def _name(segment: bytes) -> bytes:
    return b"[^/]+" if segment == b"**" else _segment(segment)


# A matcher that goes back to try other lengths for each star takes time exponential in their
# number. What stands between two stars has a fixed length, so where it is found first is as good as
# anywhere: atomic groups, `(?>…)`, keep that choice. Only the last star, whose end is fixed by what
# follows, is ever gone back to.


def _above(segments: list[bytes]) -> bytes:
    """The folders of a path, each with its slash: what stands before, between and after the `**`."""
    head, *rest = _split_at(segments, b"**")
    made = [b"".join(_segment(segment) + b"/" for segment in head)]
    for number, some in enumerate(rest, 1):
        folders = b"".join(_segment(segment) + b"/" for segment in some)
        if number == len(rest):
            made.append(b"(?:[^/]++/)*" + folders)
        elif some:
            made.append(b"(?>(?:[^/]++/)*?" + folders + b")")
    return b"".join(made)


def _segment(segment: bytes) -> bytes:
    head, *rest = [re.escape(piece).replace(rb"\?", b"[^/]") for piece in segment.split(b"*")]
    if not rest:
        return head
    *between, tail = rest
    return (
        head + b"".join(b"(?>[^/]*?" + piece + b")" for piece in between if piece) + b"[^/]*" + tail
    )


def _split_at(segments: list[bytes], separator: bytes) -> list[list[bytes]]:
    parts: list[list[bytes]] = [[]]
    for segment in segments:
        if segment == separator:
            parts.append([])
        else:
            parts[-1].append(segment)
    return parts


def _literal_prefix(pattern: bytes) -> bytes:
    segments = pattern.split(b"/")
    literal = []
    for segment in segments:
        if _WILD.search(segment):
            break
        literal.append(segment)
    return b"/".join(literal)


def _may_meet(taken: bytes, folder: bytes) -> bool:
    """Whether a `!` pattern can match anything below the folder; rather yes than no."""
    prefix = _literal_prefix(taken)
    return (
        not prefix
        or prefix == folder
        or prefix.startswith(folder + b"/")
        or folder.startswith(prefix + b"/")
    )
