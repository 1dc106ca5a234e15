"""A build context: what of some files Docker's client would send to the daemon, and the tar that
it is sent as.
"""

import io
import os
import posixpath
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from cipipe.errors import StageError, UsageError
from cipipe.tools.docker import dockerignore
from cipipe.tools.git.client import LINK, Entry


class File(msgspec.Struct, frozen=True):
    """A file of a context: git's mode, and its bytes (of a link, where it leads)."""

    mode: bytes
    body: bytes


Files = Mapping[str, File]
"""By their paths from the top of the context."""


def context(files: Iterable[tuple[Entry, bytes]], *, dockerfile: str, created: int) -> bytes:
    """The tar of a context whose entries have paths from its top."""
    found = {
        entry.path.decode(errors="surrogateescape"): File(entry.mode, body) for entry, body in files
    }
    return packed(
        sent(found, ignore_rules(found, dockerfile), dockerfile=dockerfile), created=created
    )


class Rules(msgspec.Struct, frozen=True):
    """The patterns that decide what is sent, and the name of the file that holds them."""

    name: str
    patterns: list[dockerignore.Pattern]

    @property
    def have_exceptions(self) -> bool:
        return any(pattern.exception for pattern in self.patterns)


def ignore_rules(files: Files, dockerfile: str) -> Rules:
    """The rules of the Dockerfile's own ignore file, or else of `.dockerignore`. Raises
    UsageError.
    """
    name = dockerignore.file_for(posixpath.normpath(dockerfile))
    if name not in files:
        name = dockerignore.NAME
    return Rules(name, dockerignore.patterns(_followed(files, name), name=name))


def sent(files: Files, rules: Rules, *, dockerfile: str) -> Files:
    """The files that the rules do not leave out.

    The Dockerfile and `.dockerignore` are always sent: the daemon reads both, and keeps them out
    of the image where they are ignored.
    """
    dockerfile = posixpath.normpath(dockerfile)
    left_out = dockerignore.ignored(rules.patterns, files)
    told = files if rules.name == dockerignore.NAME else _instructed(files, dockerfile, left_out)
    always = {dockerfile, dockerignore.NAME}
    return {path: file for path, file in told.items() if path in always or path not in left_out}


def unpacked(files: Files, rules: Rules, folder: Path, *, dockerfile: str, created: int) -> None:
    """Write what is sent into an empty folder, for a client that reads the ignore files by itself."""
    left_out = dockerignore.ignored(rules.patterns, files) - {
        posixpath.normpath(dockerfile),
        rules.name,
    }
    folders = {folder}
    # Links come last: a damaged tree may have a link and a folder of one name, and nothing is
    # written through a link.
    for path, file in sorted(files.items(), key=lambda item: item[1].mode == LINK):
        if path in left_out:
            continue
        if posixpath.normpath(f"/{path}") != f"/{path}":
            raise StageError(
                "image-context-missing",
                f"the build context has a file with the impossible path {path!r}",
            )
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        folders.update(parent for parent in target.parents if parent.is_relative_to(folder))
        if file.mode == LINK:
            target.symlink_to(file.body.decode(errors="surrogateescape"))
        else:
            target.write_bytes(file.body)
            target.chmod(0o755 if file.mode == b"100755" else 0o644)
        os.utime(target, (created, created), follow_symlinks=False)
    for parent in sorted(folders, reverse=True):
        parent.chmod(0o755)
        os.utime(parent, (created, created))


def packed(files: Files, *, created: int) -> bytes:
    """A tar: the same bytes for the same files, whoever packs them and when."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as target:
        for path, file in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.mtime = created
            member.mode = 0o755 if file.mode == b"100755" else 0o644
            if file.mode == LINK:
                member.type, member.linkname = (
                    tarfile.SYMTYPE,
                    file.body.decode(errors="surrogateescape"),
                )
                target.addfile(member)
            else:
                member.size = len(file.body)
                target.addfile(member, io.BytesIO(file.body))
    return made.getvalue()


def _followed(files: Files, name: str) -> bytes:
    """A file's contents, links inside the context followed; nothing where there is no file."""
    if name not in files:
        return b""
    path = name
    for _ in range(40):
        file = files.get(path)
        if file is None:
            break
        if file.mode != LINK:
            return file.body
        path = posixpath.normpath(
            posixpath.join(posixpath.dirname(path), file.body.decode(errors="surrogateescape"))
        )
    raise UsageError(
        "image-bad-dockerignore",
        f"{name} is a link to {path}, which is not a file of the build context",
        hint="Put a file in its place. Nothing was built, because files meant to be left out might get into the image.",
        where=name,
    )


def _instructed(files: Files, dockerfile: str, left_out: set[str]) -> Files:
    """Have the daemon hide the Dockerfile and `.dockerignore` as the Dockerfile's own ignore file
    says.

    The daemon looks into `.dockerignore` only, so lines that say it are added there, where it does
    not already.
    """
    own = files[dockerignore.NAME].body if dockerignore.NAME in files else b""
    wanted = {
        name for name in (dockerfile, dockerignore.NAME) if name in left_out or name not in files
    }
    told = dockerignore.ignored(dockerignore.patterns(own), [dockerfile, dockerignore.NAME])
    if wanted == told:
        return files
    marks = {name: "" if name in wanted else "!" for name in wanted ^ told}
    lines = "".join(
        f"\n{mark}{dockerignore.line_for(name)}" for name, mark in sorted(marks.items())
    )
    return {
        **files,
        dockerignore.NAME: File(b"100644", own + lines.encode(errors="surrogateescape")),
    }
