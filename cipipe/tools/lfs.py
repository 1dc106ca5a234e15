"""Files that Git LFS keeps outside the repository: git holds a pointer in their place.

Spec: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md. Nothing is downloaded here: the content is taken from
where `git lfs pull` left it, and only if it has the size and the SHA-256 that the pointer names.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cipipe.errors import Problem
from cipipe.tools.git import Repository

_LONGEST = 1024
"""A pointer is shorter than this, in bytes."""

_VERSIONS = (
    b"version https://git-lfs.github.com/spec/v1\n",
    b"version https://hawser.github.com/spec/v1\n",
    b"version http://git-media.io/v/2\n",
)
_LINE = re.compile(rb"([a-z0-9.-]+) ([^\n]*)\n")
_OID = re.compile(rb"sha256:([0-9a-f]{64})")


class Pointer(NamedTuple):
    """What a pointer says of the content: its SHA-256 in hex, and its size in bytes."""

    sha256: str
    size: int


def pointer(body: bytes) -> Pointer | None:
    """The pointer that a file is; None for every other file."""
    if len(body) >= _LONGEST or not body.startswith(_VERSIONS):
        return None
    lines = _LINE.findall(body)
    if sum(len(key) + len(value) + 2 for key, value in lines) != len(body):
        return None
    keys = dict(lines)
    oid = _OID.fullmatch(keys.get(b"oid", b""))
    size = keys.get(b"size", b"")
    return Pointer(oid[1].decode(), int(size)) if oid and size.isdigit() else None


def contents(repository: Repository, files: Mapping[bytes, bytes]) -> tuple[dict[bytes, bytes], list[Problem]]:
    """Files by repository path, each pointer replaced by its content; and a problem for each content that is not here."""
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
    """What a pointer stands for, from LFS's own store in the clone or the work tree; None where neither has it."""
    store = repository.common_folder / "lfs" / "objects" / kept.sha256[:2] / kept.sha256[2:4] / kept.sha256
    return _first([store, repository.root / path.decode(errors="surrogateescape")], kept)


def absent(path: str, kept: Pointer) -> Problem:
    """The problem of a pointer whose content is not on this machine."""
    return Problem(
        "git-lfs-pointer",
        f"is a Git LFS pointer, and the {kept.size} bytes that it stands for are not in this clone",
        path,
        "Run `git lfs pull` before cipipe; on GitHub set `lfs: true` for actions/checkout, "
        "on GitLab use a runner that has git-lfs.",
    )


def _first(places: Iterable[Path], kept: Pointer) -> bytes | None:
    for place in places:
        try:
            if place.is_symlink() or place.stat().st_size != kept.size:
                continue
            body = place.read_bytes()
        except OSError:
            continue
        if hashlib.sha256(body).hexdigest() == kept.sha256:
            return body
    return None
