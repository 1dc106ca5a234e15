"""Compares two images file by file, and by their configuration.

What is compared is what a container sees: type, mode, owner and content of every file, and how
the image starts. Not compared are the times of files and how files are spread over layers, which
differ between builders.
"""

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

# What the daemon makes for each container, which is in no image.
_OF_THE_CONTAINER = frozenset(
    {
        ".dockerenv",
        "dev",
        "etc/hostname",
        "etc/hosts",
        "etc/mtab",
        "etc/resolv.conf",
        "proc",
        "sys",
    }
)

# The configuration that decides how a container starts. Labels name the
# commit, which may differ for the same content.
_CONFIGURATION = ("Cmd", "Entrypoint", "Env", "ExposedPorts", "User", "Volumes", "WorkingDir")


class FileState(msgspec.Struct, frozen=True):
    """A file of an image, without its time."""

    type: str
    mode: int
    owner: tuple[int, int]
    # SHA-256 of a regular file, the target of a link.
    content: str


Files: TypeAlias = Mapping[str, FileState]

Change = Literal["added", "removed", "content", "type", "mode", "owner", "configuration"]


class ImageDifference(msgspec.Struct, frozen=True):
    """One thing that differs. `added`: only the second image has it."""

    # A file, without a leading slash, or a key of the configuration.
    name: str
    change: Change


def files_of(archive: tarfile.TarFile) -> dict[str, FileState]:
    """The files of a container's exported file system, read as it streams in."""
    found = {}
    for member in archive:
        name = member.name.removeprefix("./").strip("/")
        if not name or name in _OF_THE_CONTAINER or name.startswith(("dev/", "proc/", "sys/")):
            continue
        content = member.linkname
        if member.isreg():
            content = _sha256(archive, member)
        found[name] = FileState(
            type=member.type.decode(errors="replace"),
            mode=member.mode,
            owner=(member.uid, member.gid),
            content=content,
        )
    return found


def differences(first: Files, second: Files) -> Iterator[ImageDifference]:
    """The files that differ, by name."""
    for name in sorted(first.keys() | second.keys()):
        one = first.get(name)
        other = second.get(name)
        if one is None or other is None:
            yield ImageDifference(name, "added" if one is None else "removed")
        elif one != other:
            yield ImageDifference(name, _what_changed(one, other))


def differing_settings(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> Iterator[ImageDifference]:
    """The keys of two images' configurations that differ and matter."""
    for key in _CONFIGURATION:
        # Docker writes "nothing" in several ways.
        if (first.get(key) or None) != (second.get(key) or None):
            yield ImageDifference(key, "configuration")


def _what_changed(one: FileState, other: FileState) -> Change:
    if one.type != other.type:
        return "type"
    if one.content != other.content:
        return "content"
    return "mode" if one.mode != other.mode else "owner"


def _sha256(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    found = hashlib.sha256()
    body = archive.extractfile(member)
    while body is not None and (piece := body.read(1 << 20)):
        found.update(piece)
    return found.hexdigest()
