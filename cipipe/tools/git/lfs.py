"""Files that Git LFS keeps outside the repository: git holds a pointer in their place.

Spec: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md. Nothing is downloaded here: the
content is taken from where `git lfs pull` left it, and only if it has the size and the SHA-256 that
the pointer names.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cipipe.errors import Problem
from cipipe.tools.git.client import Repository

_LONGEST = 1024
"""A pointer is shorter than this, in bytes."""

_VERSIONS = frozenset(
    {
        b"https://git-lfs.github.com/spec/v1",
        b"https://hawser.github.com/spec/v1",
        b"http://git-media.io/v/2",
    }
)
_OID = re.compile(rb"sha256:([0-9a-f]{64})")
_EXTENSION = re.compile(rb"ext-\d-\w+")


class Pointer(NamedTuple):
    """What a pointer says of the content: its SHA-256 in hex, and its size in bytes.

    Where an extension of LFS has changed the content (encrypted it, say), those are of what is
    stored, and `original` is the SHA-256 of the file as it was before.
    """

    sha256: str
    size: int
    original: str | None = None


def pointer(body: bytes) -> Pointer | None:
    """The pointer that a file is; None for every other file.

    As `git lfs` reads one: blank lines, a carriage return before the end of a line, and a missing
    last newline do not matter. Keys come in order; those that are not known are passed over.
    """
    if len(body) >= _LONGEST or not body.lstrip().startswith(b"version "):
        return None
    lines = [line.removesuffix(b"\r") for line in body.strip().split(b"\n")]
    pairs = [line.partition(b" ") for line in lines if line]
    order = [key for key, _, _ in pairs[1:]]
    if order != sorted(order) or not all(space for _, space, _ in pairs):
        return None
    keys = {key: value for key, _, value in pairs}
    oid = _OID.fullmatch(keys.get(b"oid", b""))
    size = keys.get(b"size", b"")
    if keys[b"version"] not in _VERSIONS or oid is None or not size.isdigit():
        return None
    # The first extension was given the file itself.
    extensions = sorted(key for key in keys if _EXTENSION.fullmatch(key))
    before = _OID.fullmatch(keys[extensions[0]]) if extensions else None
    return Pointer(oid[1].decode(), int(size), before[1].decode() if before else None)


def contents(
    repository: Repository, files: Mapping[bytes, bytes]
) -> tuple[dict[bytes, bytes], list[Problem]]:
    """Files by repository path, each pointer replaced by its content; and a problem for each
    content that is not here.
    """
    found = dict(files)
    missing: list[Problem] = []
    for path, kept in pointers(files):
        body = content(repository, path, kept)
        if body is None:
            missing.append(absent(path.decode(errors="backslashreplace"), kept))
        else:
            found[path] = body
    return found, missing


def pointers(files: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, Pointer]]:
    """The files that are pointers, by path."""
    for path, body in files.items():
        if (kept := pointer(body)) is not None:
            yield path, kept


def content(repository: Repository, path: bytes, kept: Pointer) -> bytes | None:
    """What a pointer stands for, from LFS's own store in the clone or the work tree; None where
    neither has it.
    """
    checked_out = repository.root / os.fsdecode(path)
    if kept.original is not None:
        return _read(checked_out, kept.original, None)
    store = (
        repository.common_folder
        / "lfs"
        / "objects"
        / kept.sha256[:2]
        / kept.sha256[2:4]
        / kept.sha256
    )
    stored = _read(store, kept.sha256, kept.size)
    return _read(checked_out, kept.sha256, kept.size) if stored is None else stored


def absent(path: str, kept: Pointer) -> Problem:
    """The problem of a pointer whose content is not on this machine."""
    return Problem(
        "git-lfs-pointer",
        f"is a Git LFS pointer, and the {kept.size} bytes that it stands for are not in this clone",
        path,
        "Run `git lfs pull` before cipipe; on GitHub set `lfs: true` for actions/checkout, "
        "on GitLab use a runner that has git-lfs.",
    )


def _read(place: Path, sha256: str, size: int | None) -> bytes | None:
    """A file's content, if it has that SHA-256 and, where it is known, that size."""
    try:
        if place.is_symlink() or (size is not None and place.stat().st_size != size):
            return None
        body = place.read_bytes()
    except OSError:
        return None
    return body if hashlib.sha256(body).hexdigest() == sha256 else None
