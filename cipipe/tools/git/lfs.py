"""Files that Git LFS stores outside the repository: git has a pointer in
their place.

Nothing is downloaded here: the content is read from where `git lfs pull` left it, and must have the
size and the SHA-256 of the pointer.
https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cipipe.errors import Problem
from cipipe.tools.git.client import Repository

# A pointer is shorter than this, in bytes.
_LONGEST = 1024

# The first two are earlier names of the same format, which git-lfs still
# reads.
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
    """What a pointer says about the content."""

    # Of the content as LFS stores it, in hex.
    sha256: str
    # The same, in bytes.
    size: int
    # The SHA-256 of the file itself, where an extension of LFS changed
    # (encrypted, say) what is stored; None: they are the same.
    original: str | None = None


def pointer(body: bytes) -> Pointer | None:
    """Parse a pointer; None for every other file.

    Lenient where `git lfs` is: blank lines, CRLF and a missing last newline
    are fine. Keys must be sorted; unknown ones are ignored.
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

    # Extensions are applied in order: the first one read the file itself,
    # and noted its hash.
    extensions = sorted(key for key in keys if _EXTENSION.fullmatch(key))
    before = _OID.fullmatch(keys[extensions[0]]) if extensions else None
    return Pointer(oid[1].decode(), int(size), before[1].decode() if before else None)


def contents(
    repository: Repository, files: Mapping[bytes, bytes]
) -> tuple[dict[bytes, bytes], list[Problem]]:
    """The files, by repository path, with each pointer replaced by its
    content.

    And a problem for each content that is not on this machine.
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
    """The content of a pointer, from LFS's store in the clone, or else from
    the work tree.

    None where neither has it.
    """
    checked_out = repository.root / os.fsdecode(path)
    if kept.original is not None:
        # What is stored would have to go through the extension: only the
        # checked-out file will do.
        return _read(checked_out, kept.original, None)

    objects = repository.common_folder / "lfs" / "objects"
    store = objects / kept.sha256[:2] / kept.sha256[2:4] / kept.sha256
    stored = _read(store, kept.sha256, kept.size)
    if stored is not None:
        return stored
    return _read(checked_out, kept.sha256, kept.size)


def absent(path: str, kept: Pointer) -> Problem:
    """The problem of a pointer whose content is not on this machine."""
    return Problem(
        "git-lfs-pointer",
        f"is a Git LFS pointer, and the {kept.size} bytes that it stands for are not in this clone",
        path,
        "Run `git lfs pull` before cipipe; on GitHub set `lfs: true` for actions/checkout, "
        "on GitLab use a runner that has git-lfs.",
    )


def _read(file: Path, sha256: str, size: int | None) -> bytes | None:
    """The file's content, if it has that SHA-256 and, where one is given, that size."""
    try:
        # The size first: it is cheap, and a wrong file may be huge.
        if file.is_symlink() or (size is not None and file.stat().st_size != size):
            return None
        body = file.read_bytes()
    except OSError:
        return None
    return body if hashlib.sha256(body).hexdigest() == sha256 else None
