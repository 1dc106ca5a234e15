"""Fingerprints: sha256 over a stage's kind, settings and files, read from a git tree.

The same content has the same fingerprint in every environment: settings count before `{environment}` and its like are
filled in, and `{ output = … }` counts by its name only (DESIGN §5).
"""

import hashlib
from collections.abc import Iterable, Mapping
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
    for entry in sorted(entries, key=lambda e: e.path):
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

    Two git commands at the most, however many stages and files there are. A folder that is not there, a submodule or
    a symlink in its place is looked up again as a file would be.
    """
    folders = sorted({folder for p in patterns.values() for folder in p.folders})
    asked = [folder for folder in folders if b"\n" not in folder]  # git takes one name per line
    names = [f"{tree}:{folder.decode()}" for folder in asked]
    trees: dict[bytes, Entry] = {}
    for folder, found in zip(asked, repository.objects(names, contents=False), strict=True):
        if found is not None and found.type == "tree":
            trees[folder] = Entry(b"040000", found.oid.encode(), folder)
    prefixes = {prefix for p in patterns.values() for prefix in p.prefixes} | {f for f in folders if f not in trees}
    files: list[Entry] = []
    if prefixes:
        files = repository.entries(tree, [] if b"" in prefixes else sorted(prefixes))
    return {
        name: tuple(
            [trees[folder] for folder in p.folders if folder in trees]
            + [entry for entry in files if matches(p, entry) and not _within(entry.path, p.folders, trees)]
        )
        for name, p in patterns.items()
    }


def files(repository: Repository, tree: str, patterns: Patterns) -> tuple[Entry, ...]:
    """Every file that the patterns match, one by one."""
    where = {*patterns.folders, *patterns.prefixes}
    if not where:
        return ()
    found = repository.entries(tree, [] if b"" in where else sorted(where))
    return tuple(entry for entry in found if matches(patterns, entry))


def matches(patterns: Patterns, entry: Entry) -> bool:
    if entry.mode == b"160000":
        return patterns.matches_submodule(entry.path)
    return patterns.matches(entry.path)


def _within(path: bytes, folders: Iterable[bytes], trees: Mapping[bytes, Entry]) -> bool:
    return any(folder in trees and path.startswith(folder + b"/") for folder in folders)


def _feed(total: "hashlib._Hash", field: bytes) -> None:
    total.update(len(field).to_bytes(8, "big"))
    total.update(field)
