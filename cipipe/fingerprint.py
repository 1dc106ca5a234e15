"""Fingerprints: sha256 over a stage's kind, settings and files, read from a git tree.

The same content has the same fingerprint in every environment: settings count before
`{environment}` and its like are filled in, and `{ output = … }` counts by its name only.
"""

import hashlib
from binascii import hexlify
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from cipipe.model import Output
from cipipe.patterns import Patterns
from cipipe.tools.git.client import LINK, SUBMODULE, TREE, Entry, Repository, Tree

VERSION = b"cipipe fingerprint 1"


def digest(kind: str, settings: Any, content: Iterable[bytes]) -> str:
    """The fingerprint, 64 hex digits, of a stage and its content, as `Contents` gives it.

    `settings` is anything JSON can hold; the order of its keys does not count.
    """
    encoded = msgspec.json.encode(settings, order="deterministic")
    total = hashlib.sha256(b"".join(map(_framed, (VERSION, kind.encode(), encoded))))
    for part in content:
        total.update(part)
    return total.hexdigest()


def effective(fingerprint: str, values: Mapping[str, Any]) -> str:
    """The effective digest: the fingerprint and the outputs that the stage consumed."""
    encoded = msgspec.json.encode(dict(values), order="deterministic")
    return hashlib.sha256(
        b"".join(map(_framed, (VERSION, fingerprint.encode(), encoded)))
    ).hexdigest()


def consumed(outputs: Mapping[str, Output], names: Iterable[str]) -> dict[str, Any]:
    """The values that count into an effective digest. Of a sensitive output only its presence does:
    the ledger does not hold its value, and a digest that can be guessed at is no place for a
    secret.
    """
    return {
        name: None if outputs[name].sensitive else outputs[name].value
        for name in sorted(names)
        if name in outputs
    }


_LINKS = frozenset({LINK, SUBMODULE})

_Listed = tuple[bytes, bytes, bytes]
"""An entry of a tree: mode, name and id."""


class Contents:
    """What of a repository's trees counts into fingerprints: each entry as length-framed mode, id
    and path.

    An entry is a tree for a folder that counts whole, else a file; they come in the order of their
    paths. Only the trees on the way to what the patterns name are read: a folder that counts whole
    costs nothing more than the tree that it stands in. What was made of a folder is kept: a second
    commit costs the folders that differ.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._made: dict[tuple[tuple[str, ...], bytes, bytes], list[bytes]] = {}

    def of(self, tree: str, patterns: Mapping[str, Patterns]) -> dict[str, list[bytes]]:
        """The content of each stage. Raises UsageError where the clone lacks a tree."""
        selections = {name: _Selection(p) for name, p in patterns.items()}
        self._read(tree.encode(), list(selections.values()))
        return {
            name: self._below(b"", tree.encode(), selection)
            for name, selection in selections.items()
        }

    def _read(self, tree: bytes, selections: list["_Selection"]) -> None:
        """Read all that `_below` will ask for, a level of folders at a time.

        Folders that hold files alone are framed while git reads the next one: nearly all of the
        work is there.
        """
        level = [(b"", tree, selections)]
        while level:
            places = defaultdict(list)
            for folder, oid, some in level:
                places[oid].append((folder, some))
            found = self._repository.trees(list(places), partial(self._came, places))
            level = [
                (path, inner, needed)
                for tree, at in zip(found, places.values(), strict=True)
                for name, inner in tree.folders()
                for folder, some in at
                for path in [folder + name + b"/"]
                if (
                    needed := [
                        s for s in some if s.reads(path) and s.key(path, inner) not in self._made
                    ]
                )
            ]

    def _came(
        self, places: Mapping[bytes, list[tuple[bytes, list["_Selection"]]]], oid: bytes, tree: Tree
    ) -> None:
        if tree.plain:
            for folder, selections in places[oid]:
                for selection in selections:
                    self._below(folder, oid, selection)

    def _below(self, folder: bytes, oid: bytes, selection: "_Selection") -> list[bytes]:
        key = selection.key(folder, oid)
        if key not in self._made:
            tree = self._repository.trees([oid])[0]
            self._made[key] = [part for part in self._parts(folder, tree, selection) if part]
        return self._made[key]

    def _parts(self, folder: bytes, tree: Tree, selection: "_Selection") -> Iterator[bytes]:
        """The entries below a folder (`b""`, or ending with a slash), in as few pieces as possible."""
        entries = tree.listing()
        if tree.plain:
            yield _frames(folder, selection.files(folder, entries))
            return
        chosen = selection.chooser(folder)
        # git puts a folder where its name with a slash belongs; one that counts whole goes where
        # its name does.
        entries.sort(
            key=lambda e: (
                e[1] + b"/" if e[0] == TREE and not selection.whole(folder + e[1]) else e[1]
            )
        )
        for entry in entries:
            mode, name, oid = entry
            path = folder + name
            if mode == TREE and not selection.whole(path):
                if selection.reads(path + b"/"):
                    yield from self._below(path + b"/", oid.hex().encode(), selection)
            elif mode == TREE or (
                selection.patterns.matches_link(path) if mode in _LINKS else chosen(name)
            ):
                yield _frames(folder, [entry])


def files(repository: Repository, tree: str, patterns: Patterns) -> tuple[Entry, ...]:
    """Every file that the patterns match, one by one."""
    scope = _Scope(set(), {*patterns.folders, *patterns.prefixes})
    found = [entry for entry in _files(repository, tree, scope) if matches(patterns, entry)]
    return tuple(sorted(found, key=lambda entry: entry.path))


def links(
    repository: Repository, tree: str, patterns: Patterns, among: Iterable[bytes] | None = None
) -> tuple[Entry, ...]:
    """The symlinks that the patterns match. With `among`, those of these paths: only the folders
    they lie in are read.
    """
    wanted = None if among is None else set(among)
    scope = (
        _Scope(set(), {*patterns.folders, *patterns.prefixes})
        if wanted is None
        else _Scope(wanted, set())
    )
    found = [
        Entry(b"120000", oid.hex().encode(), folder + name)
        for folder, below in _walk(repository, tree, scope)
        if not below.plain
        for mode, name, oid in below.listing()
        if mode == LINK
        and (wanted is None or folder + name in wanted)
        and patterns.matches_link(folder + name)
    ]
    return tuple(sorted(found, key=lambda entry: entry.path))


def below(repository: Repository, tree: str, folder: bytes) -> list[Entry]:
    """Every file below a folder, with its whole path. `tree` is the folder's own."""
    found = sorted(_files(repository, tree, _Scope(set(), {b""})), key=lambda entry: entry.path)
    return [Entry(e.mode, e.oid, folder + b"/" + e.path if folder else e.path) for e in found]


def changed(
    repository: Repository, old: str, new: str, patterns: Mapping[str, Patterns]
) -> dict[str, tuple[bytes, ...]]:
    """The paths of each stage that differ between two trees; a rename is two of them. Equal trees
    are not looked into.
    """
    scope = _Scope(
        set(), {prefix for p in patterns.values() for prefix in (*p.folders, *p.prefixes)}
    )
    found: list[tuple[bytes, bytes]] = []
    pairs: list[tuple[bytes, bytes | None, bytes | None]] = [(b"", old.encode(), new.encode())]
    while pairs:
        wanted = [oid for _, *both in pairs for oid in both if oid is not None]
        read = dict(zip(wanted, repository.trees(wanted), strict=True))
        below = []
        for folder, *both in pairs:
            before, after = (set(read[oid].listing()) if oid else set() for oid in both)
            gone, came = (
                {name: (mode, oid) for mode, name, oid in some}
                for some in (before - after, after - before)
            )
            for name in gone.keys() | came.keys():
                differing = [
                    entry for entry in (gone.get(name), came.get(name)) if entry is not None
                ]
                found += [(mode, folder + name) for mode, _ in differing if mode != TREE][:1]
                inner = [
                    e[1].hex().encode() if e is not None and e[0] == TREE else None
                    for e in (gone.get(name), came.get(name))
                ]
                if any(inner) and scope.reaches(folder + name):
                    below.append((folder + name + b"/", inner[0], inner[1]))
        pairs = below
    return {
        name: tuple(sorted(path for mode, path in found if _matches(p, mode, path)))
        for name, p in patterns.items()
    }


def matches(patterns: Patterns, entry: Entry) -> bool:
    """Whether a file counts. A submodule or a symlink in the place of a folder stands for what is
    below it.
    """
    return _matches(patterns, entry.mode, entry.path)


def _matches(patterns: Patterns, mode: bytes, path: bytes) -> bool:
    return patterns.matches_link(path) if mode in _LINKS else patterns.matches(path)


class _Scope:
    """Which trees have to be read: `whole` folders are only found, everything below a prefix is
    read.
    """

    def __init__(self, whole: set[bytes], prefixes: set[bytes]) -> None:
        self.whole = whole
        self._prefixes = prefixes
        self._starts = tuple(prefix + b"/" for prefix in prefixes)
        self._on_the_way: set[bytes] = set()
        for path in whole | prefixes:
            above = path.rpartition(b"/")[0]
            while above and above not in self._on_the_way:
                self._on_the_way.add(above)
                above = above.rpartition(b"/")[0]

    def reaches(self, path: bytes) -> bool:
        """Whether a tree has to be read."""
        return (
            b"" in self._prefixes
            or path in self._prefixes
            or path in self._on_the_way
            or path.startswith(self._starts)
        )


class _Selection:
    """What one stage's patterns take: whole folders, and everything that the scope reaches."""

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns
        self.whole = frozenset(patterns.folders).__contains__
        self._scope = _Scope(set(patterns.folders), set(patterns.prefixes))

    def reads(self, folder: bytes) -> bool:
        """Whether a folder (ending with a slash) has to be read."""
        return self._scope.reaches(folder[:-1]) and not self.whole(folder[:-1])

    def key(self, folder: bytes, oid: bytes) -> tuple[tuple[str, ...], bytes, bytes]:
        """What the content of a folder depends on."""
        return self.patterns.texts, folder, oid

    def files(self, folder: bytes, entries: list[_Listed]) -> list[_Listed]:
        """The files that count, of those in a folder without folders."""
        endings = self.patterns.endings_in(folder)
        if endings is not None:
            return [entry for entry in entries if not entry[1].endswith(endings)]
        chosen = self.chooser(folder)
        return [entry for entry in entries if chosen(entry[1])]

    def chooser(self, folder: bytes) -> Callable[[bytes], object]:
        """What tells of a file's name in this folder whether it counts."""
        names = self.patterns.names_in(folder)
        return names.fullmatch if names is not None else lambda _: False


def _walk(repository: Repository, tree: str, scope: _Scope) -> Iterator[tuple[bytes, Tree]]:
    """The folders that the scope reaches, each with its path (ending with a slash); a level at a
    time.
    """
    level = [(b"", tree.encode())]
    while level:
        found = repository.trees([oid for _, oid in level])
        folders = [(folder, below) for (folder, _), below in zip(level, found, strict=True)]
        yield from folders
        level = [
            (folder + name + b"/", oid)
            for folder, below in folders
            for name, oid in below.folders()
            if scope.reaches(folder + name)
        ]


def _files(repository: Repository, tree: str, scope: _Scope) -> Iterator[Entry]:
    """Every file in the folders that the scope reaches."""
    for folder, below in _walk(repository, tree, scope):
        for mode, name, oid in below.listing():
            if mode != TREE:
                yield Entry(mode, oid.hex().encode(), folder + name)


def _frames(folder: bytes, entries: list[_Listed]) -> bytes:
    """Entries of one folder, framed. One expression per entry: this is where the time goes."""
    if not entries:
        return b""
    oid_length = _length(2 * len(entries[0][2]))
    heads = _Made(lambda mode: _framed(mode.rjust(6, b"0")) + oid_length)
    above = _Made(lambda size: _length(len(folder) + size) + folder)
    return b"".join(
        [heads[mode] + hexlify(oid) + above[len(name)] + name for mode, name, oid in entries]
    )


class _Made(dict[Any, bytes]):
    """What `make` gives for each key, made once."""

    def __init__(self, make: Callable[[Any], bytes]) -> None:
        self._make = make

    def __missing__(self, key: Any) -> bytes:
        made = self[key] = self._make(key)
        return made


def _framed(field: bytes) -> bytes:
    return _length(len(field)) + field


def _length(size: int) -> bytes:
    return size.to_bytes(8, "big")
