"""Fingerprints: sha256 over a stage's kind, settings and files, read from a git tree.

The same content has the same fingerprint in every environment: settings count before `{environment}` and its like are
filled in, and `{ output = … }` counts by its name only (DESIGN §5).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from cipipe.model import Output
from cipipe.patterns import Patterns
from cipipe.tools.git import Entry, Repository

VERSION = b"cipipe fingerprint 1"


def digest(kind: str, settings: Any, entries: Iterable[Entry]) -> str:
    """The fingerprint, 64 hex digits. `settings` is anything JSON can hold; the order of its keys does not count."""
    total = hashlib.sha256()
    encoded = msgspec.json.encode(settings, order="deterministic")
    for field in (VERSION, kind.encode(), encoded):
        _feed(total, field)
    for entry in sorted(entries, key=_path):
        for field in (entry.mode, entry.oid, entry.path):
            _feed(total, field)
    return total.hexdigest()


def effective(fingerprint: str, values: Mapping[str, Any]) -> str:
    """The effective digest: the fingerprint and the outputs that the stage consumed."""
    total = hashlib.sha256()
    for field in (VERSION, fingerprint.encode(), msgspec.json.encode(dict(values), order="deterministic")):
        _feed(total, field)
    return total.hexdigest()


def consumed(outputs: Mapping[str, Output], names: Iterable[str]) -> dict[str, Any]:
    """The values that count into an effective digest. Of a sensitive output only its presence does: the ledger does not
    hold its value, and a digest that can be guessed at is no place for a secret.
    """
    return {name: None if outputs[name].sensitive else outputs[name].value for name in sorted(names) if name in outputs}


def entries(repository: Repository, tree: str, patterns: Mapping[str, Patterns]) -> dict[str, tuple[Entry, ...]]:
    """The entries that each stage's fingerprint counts: a tree for a folder that counts whole, else files.

    Reads the trees on the way to what the patterns name, and no other: a folder that counts whole costs nothing more
    than the tree that it stands in, however many files lie below it.
    """
    whole = {folder for p in patterns.values() for folder in p.folders}
    scope = _Scope(whole, {prefix for p in patterns.values() for prefix in p.prefixes})
    trees: dict[bytes, Entry] = {}
    leaves: list[Entry] = []
    for entry in _walk(repository, tree, scope):
        if entry.is_tree:
            trees[entry.path] = entry
        else:
            leaves.append(entry)
    leaves.sort(key=_path)
    return {
        name: tuple(
            [trees[folder] for folder in p.folders if folder in trees]
            + [entry for entry in leaves if matches(p, entry) and not _within(entry.path, p.folders, trees)]
        )
        for name, p in patterns.items()
    }


def files(repository: Repository, tree: str, patterns: Patterns) -> tuple[Entry, ...]:
    """Every file that the patterns match, one by one."""
    scope = _Scope(set(), {*patterns.folders, *patterns.prefixes})
    found = [e for e in _walk(repository, tree, scope) if not e.is_tree and matches(patterns, e)]
    return tuple(sorted(found, key=_path))


def links(
    repository: Repository, tree: str, patterns: Patterns, among: Iterable[bytes] | None = None
) -> tuple[Entry, ...]:
    """The symlinks that the patterns match. With `among`, those of these paths: only the folders they lie in are read."""
    if among is None:
        found: Iterable[Entry] = files(repository, tree, patterns)
    else:
        wanted = set(among)
        found = [e for e in _walk(repository, tree, _Scope(wanted, set())) if e.path in wanted and matches(patterns, e)]
    return tuple(entry for entry in found if entry.mode == b"120000")


def below(repository: Repository, tree: str, folder: bytes) -> list[Entry]:
    """Every file below a folder, with its whole path. `tree` is the folder's own."""
    found = _walk(repository, tree, _Scope(set(), {b""}))
    return [Entry(e.mode, e.oid, folder + b"/" + e.path if folder else e.path) for e in found]


def changed(
    repository: Repository, old: str, new: str, patterns: Mapping[str, Patterns]
) -> dict[str, tuple[bytes, ...]]:
    """The paths of each stage that differ between two trees; a rename is two of them. Equal trees are not looked into."""
    scope = _Scope(set(), {prefix for p in patterns.values() for prefix in (*p.folders, *p.prefixes)})
    found: list[Entry] = []
    pairs: list[tuple[bytes, bytes | None, bytes | None]] = [(b"", old.encode(), new.encode())]
    while pairs:
        wanted = list({oid for _, *both in pairs for oid in both if oid is not None})
        read = dict(zip(wanted, repository.trees(wanted), strict=True))
        below = []
        for folder, *both in pairs:
            before, after = ({e.path: e for e in read[oid]} if oid else {} for oid in both)
            for name in before.keys() | after.keys():
                was, now = before.get(name), after.get(name)
                if was == now:
                    continue
                path = folder + name
                differing = [e for e in (was, now) if e is not None and not e.is_tree]
                found += [Entry(e.mode, e.oid, path) for e in differing[:1]]
                inner = [e.oid if e is not None and e.is_tree else None for e in (was, now)]
                if any(inner) and scope.reaches(path):
                    below.append((path + b"/", inner[0], inner[1]))
        pairs = below
    return {name: tuple(sorted(entry.path for entry in found if matches(p, entry))) for name, p in patterns.items()}


def matches(patterns: Patterns, entry: Entry) -> bool:
    """Whether a file counts. A submodule or a symlink in the place of a folder stands for what is below it."""
    if entry.mode in {b"160000", b"120000"}:
        return patterns.matches_link(entry.path)
    return patterns.matches(entry.path)


class _Scope:
    """Which trees have to be read: `whole` folders are only found, everything below a prefix is read."""

    def __init__(self, whole: set[bytes], prefixes: set[bytes]) -> None:
        self.whole = whole
        self._prefixes = prefixes
        self._starts = tuple(prefix + b"/" for prefix in prefixes)
        self._on_the_way = {
            path[:end] for path in whole | prefixes for end in range(len(path)) if path[end : end + 1] == b"/"
        }

    def reaches(self, path: bytes) -> bool:
        """Whether a tree has to be read."""
        return (
            b"" in self._prefixes or path in self._prefixes or path in self._on_the_way or path.startswith(self._starts)
        )


def _walk(repository: Repository, tree: str, scope: _Scope) -> Iterator[Entry]:
    """The files that the scope reaches, and the trees that it wants whole; a level of folders at a time."""
    level = [(b"", tree.encode())]
    while level:
        below = []
        listings = repository.trees([oid for _, oid in level])
        for (folder, _), listing in zip(level, listings, strict=True):
            for entry in listing:
                path = folder + entry.path
                if entry.is_tree:
                    if path in scope.whole:
                        yield Entry(entry.mode, entry.oid, path)
                    if scope.reaches(path):
                        below.append((path + b"/", entry.oid))
                else:
                    yield Entry(entry.mode, entry.oid, path)
        level = below


def _path(entry: Entry) -> bytes:
    return entry.path


def _within(path: bytes, folders: Iterable[bytes], trees: Mapping[bytes, Entry]) -> bool:
    return any(folder in trees and path.startswith(folder + b"/") for folder in folders)


def _feed(total: "hashlib._Hash", field: bytes) -> None:
    total.update(len(field).to_bytes(8, "big"))
    total.update(field)
