"""Patterns over repository paths: `*` and `?` stay inside a segment, `**`
crosses segments, `!` excludes.

Everything is bytes, because git's paths are; a name may contain line breaks
and invalid UTF-8. No library has exactly these semantics over bytes
(docs/decisions/0002-path-patterns.md).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, lru_cache

_WILD = re.compile(rb"[*?]")
_ANYTHING = {b"*", b"**"}

# Whether a folder (`b""`, or ending with a slash) is one that a pattern
# reaches into.
_FolderTest = Callable[[bytes], object]


class Patterns:
    """A stage's `paths`. A path matches when a plain pattern matches it and no `!` pattern does."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.texts = tuple(patterns)
        encoded = [pattern.encode() for pattern in self.texts]
        self._included = [p for p in encoded if not p.startswith(b"!")]
        self._excluded = [p[1:] for p in encoded if p.startswith(b"!")]
        self._any_included = _AnyOf(self._included)
        self._any_excluded = _AnyOf(self._excluded)

    def matches(self, path: bytes) -> bool:
        return self._any_included.matches(path) and not self._any_excluded.matches(path)

    def matches_link(self, path: bytes) -> bool:
        """Whether a submodule or symlink counts: a pattern names it, or
        what is below it, and no `!` pattern does.
        """
        below = path + b"/-"
        included = any(self._any_included.matches(p) for p in (path, below))
        return included and not any(self._any_excluded.matches(p) for p in (path, below))

    def names(self, path: bytes) -> bool:
        """Whether a plain pattern matches, whatever `!` patterns exclude:
        that was left out on purpose.
        """
        return self._any_included.matches(path)

    def names_in(self, folder: bytes) -> re.Pattern[bytes] | None:
        """What the names of the files in one folder (`b""`, or ending with
        a slash) match that the patterns match.

        For many files this costs a fraction of `matches`. None where
        nothing in the folder matches.
        """
        included, excluded = self._segments(folder)
        return _names_regex(included, excluded) if included else None

    def endings_in(self, folder: bytes) -> tuple[bytes, ...] | None:
        """The endings of names in one folder that do not match, if all
        other names do; None if it is not that simple.

        For `dbt/models/` with `dbt/**` and `!dbt/**/*.md` that is `.md`.
        Looking at the ending takes half the time of `names_in`.
        """
        included, excluded = self._segments(folder)
        if not _ANYTHING.isdisjoint(included) and all(
            name.startswith(b"*") and not _WILD.search(name[1:]) for name in excluded
        ):
            return tuple(segment[1:] for segment in excluded)
        return None

    def _segments(self, folder: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """What the plain and the `!` patterns say of the names right in a
        folder: their last segments.
        """
        included, excluded = (
            tuple(dict.fromkeys(segment for is_above, segment in some if is_above(folder)))
            for some in self._split
        )
        return included, excluded

    @cached_property
    def _split(self) -> tuple[list[tuple[_FolderTest, bytes]], list[tuple[_FolderTest, bytes]]]:
        """Of the plain and of the `!` patterns: what recognizes a folder,
        and the segment for the names right in it.
        """
        return [_halves(p) for p in self._included], [_halves(p) for p in self._excluded]

    @cached_property
    def folders(self) -> tuple[bytes, ...]:
        """The folders that count whole, so that the id of one tree stands for all that is below."""
        whole = {p[:-3] for p in self._included if _is_folder(p)}
        whole = {
            folder for folder in whole if not any(_may_meet(t, folder) for t in self._excluded)
        }
        return tuple(
            sorted(f for f in whole if not any(f.startswith(other + b"/") for other in whole))
        )

    @cached_property
    def prefixes(self) -> tuple[bytes, ...]:
        """Folders or files below which all other matches lie; `b""` is the whole tree."""
        rest = [
            p
            for p in self._included
            if not any(p.startswith(folder + b"/") for folder in self.folders)
        ]
        found = {_literal_prefix(p) for p in rest}
        if b"" in found:
            return (b"",)
        return tuple(
            sorted(f for f in found if not any(f.startswith(other + b"/") for other in found))
        )


class PatternIndex:
    """The patterns of many stages, to find those that match a path without
    trying them all.

    A path is matched by a pattern only at or below the pattern's literal
    beginning, so the stages are kept by that, and looked up for each folder
    above the path.
    """

    def __init__(self, patterns: Mapping[str, Patterns]) -> None:
        self._patterns = patterns
        self._by_prefix: dict[bytes, list[str]] = {}
        for name, some in patterns.items():
            for prefix in dict.fromkeys((*some.folders, *some.prefixes)):
                self._by_prefix.setdefault(prefix, []).append(name)

    @property
    def prefixes(self) -> Iterable[bytes]:
        """Folders or files below which everything lies that any stage matches."""
        return self._by_prefix.keys()

    def matching(self, path: bytes, *, is_link: bool) -> Iterator[str]:
        """The stages whose patterns match. `is_link`: as a symlink or
        submodule, which counts as what is below it.
        """
        names: dict[str, None] = {}
        # A link matches where its patterns match this, too: see
        # `matches_link`.
        above = path + b"/-" if is_link else path
        while above:
            names.update(dict.fromkeys(self._by_prefix.get(above, ())))
            above = above.rpartition(b"/")[0]
        names.update(dict.fromkeys(self._by_prefix.get(b"", ())))

        for name in names:
            some = self._patterns[name]
            if some.matches_link(path) if is_link else some.matches(path):
                yield name


class _AnyOf:
    """Several patterns, of which one has to match.

    Literal paths and `FOLDER/**` are most of what there is, and compiling a
    regular expression takes longer than all the rest that a plan does for a
    stage: only other patterns become one.
    """

    def __init__(self, patterns: list[bytes]) -> None:
        literal = [p for p in patterns if not _WILD.search(p)]
        self._literal = frozenset(literal)
        # Each with its slash: what starts with it lies below the folder.
        self._folders = tuple(p[:-2] for p in patterns if _is_folder(p))
        self._others = [p for p in patterns if _WILD.search(p) and not _is_folder(p)]

    def matches(self, path: bytes) -> bool:
        if path in self._literal or self._is_below(path):
            return True
        return bool(self._others) and self._regex.fullmatch(path) is not None

    def _is_below(self, path: bytes) -> bool:
        if not path.startswith(self._folders):
            return False
        # Only a path that ends with a slash can be the folder itself, which
        # does not match.
        return not path.endswith(b"/") or any(
            path.startswith(folder) for folder in self._folders if folder != path
        )

    @cached_property
    def _regex(self) -> re.Pattern[bytes]:
        return re.compile(
            rb"|".join(b"(?:" + _translate(p) + b")" for p in self._others), re.DOTALL
        )


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
        return "has `**` beside other characters; it has to be alone between slashes"
    return None


def _is_folder(pattern: bytes) -> bool:
    """Whether a pattern is `FOLDER/**`, with a literal folder."""
    return pattern.endswith(b"/**") and not _WILD.search(pattern[:-3])


def _translate(pattern: bytes) -> bytes:
    *before, last = pattern.split(b"/")
    if last != b"**":
        return _above(before) + _segment(last)
    while before and before[-1] == b"**":
        before.pop()
    return _above(before) + b".+"


@lru_cache(maxsize=4096)
def _halves(pattern: bytes) -> tuple[_FolderTest, bytes]:
    """What recognizes a folder in which the pattern's last segment says
    which names match, and that segment.
    """
    *before, last = pattern.split(b"/")
    segments = [*before, last] if last == b"**" else before
    if b"**" not in segments and not any(map(_WILD.search, segments)):
        return b"".join(s + b"/" for s in segments).__eq__, last
    *literal, wild = segments
    if wild == b"**" and not any(map(_WILD.search, literal)):
        start = b"".join(s + b"/" for s in literal)
        return lambda folder: folder.startswith(start), last
    return re.compile(_above(segments), re.DOTALL).fullmatch, last


@lru_cache(maxsize=4096)
def _names_regex(included: tuple[bytes, ...], excluded: tuple[bytes, ...]) -> re.Pattern[bytes]:
    wanted = b"|".join(map(_name, included))
    refused = b"(?!(?:" + b"|".join(map(_name, excluded)) + b")\\Z)" if excluded else b""
    return re.compile(refused + b"(?:" + wanted + b")", re.DOTALL)


def _name(segment: bytes) -> bytes:
    return b"[^/]+" if segment == b"**" else _segment(segment)


# A matcher that goes back to try other lengths for each star takes time
# exponential in their number. What is between two stars has a fixed length,
# so its first occurrence is as good as any other: atomic groups, `(?>…)`,
# keep that choice. Only the last star, of which the end is fixed by what
# follows, is matched again.


def _above(segments: list[bytes]) -> bytes:
    """The folders of a path, each with its slash: those before, between and after the `**`."""
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


def _may_meet(excluded: bytes, folder: bytes) -> bool:
    """Whether a `!` pattern can match anything below the folder; rather yes than no."""
    prefix = _literal_prefix(excluded)
    return (
        not prefix
        or prefix == folder
        or prefix.startswith(folder + b"/")
        or folder.startswith(prefix + b"/")
    )
