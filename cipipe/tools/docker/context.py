"""A build context: which files Docker's client would send to the daemon, and the tar of them."""

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
    """A file of a context."""

    # Git's mode, as six octal digits.
    mode: bytes
    # Its contents; of a link, its target.
    body: bytes


Files = Mapping[str, File]
"""By path from the top of the context."""


def context(files: Iterable[tuple[Entry, bytes]], *, dockerfile: str, created: int) -> bytes:
    """The tar of a context whose entries have paths from its top."""
    found = {
        entry.path.decode(errors="surrogateescape"): File(entry.mode, body) for entry, body in files
    }
    rules = ignore_rules(found, dockerfile)
    return packed(sent(found, rules, dockerfile=dockerfile), created=created)


class IgnoreRules(msgspec.Struct, frozen=True):
    """The patterns that decide what is sent."""

    # The file that they are from.
    name: str
    patterns: list[dockerignore.Pattern]

    @property
    def have_exceptions(self) -> bool:
        return any(pattern.exception for pattern in self.patterns)


def ignore_rules(files: Files, dockerfile: str) -> IgnoreRules:
    """The rules of the Dockerfile's own ignore file, or else of
    `.dockerignore`.

    Raises UsageError.
    """
    name = dockerignore.file_for(posixpath.normpath(dockerfile))
    if name not in files:
        name = dockerignore.NAME
    return IgnoreRules(name, dockerignore.patterns(_followed(files, name), name=name))


def sent(files: Files, rules: IgnoreRules, *, dockerfile: str) -> Files:
    """The files that the rules do not leave out.

    The Dockerfile and `.dockerignore` are always sent: the daemon reads
    both, and keeps them out of the image when they are ignored.
    """
    dockerfile = posixpath.normpath(dockerfile)
    left_out = dockerignore.ignored(rules.patterns, files)
    adapted = files
    if rules.name != dockerignore.NAME:
        adapted = _instructed(files, dockerfile, left_out)
    always = {dockerfile, dockerignore.NAME}
    return {path: file for path, file in adapted.items() if path in always or path not in left_out}


def unpacked(
    files: Files, rules: IgnoreRules, folder: Path, *, dockerfile: str, created: int
) -> None:
    """Write the context into an empty folder, for a client that reads the ignore files itself."""
    always = {posixpath.normpath(dockerfile), rules.name}
    left_out = dockerignore.ignored(rules.patterns, files) - always
    folders = {folder}
    # Links come last: a damaged tree may have a link and a folder of the
    # same name, and nothing must be written through a link.
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

    # From the bottom up: writing into a folder changes its time.
    for parent in sorted(folders, reverse=True):
        parent.chmod(0o755)
        os.utime(parent, (created, created))


def packed(files: Files, *, created: int) -> bytes:
    """A tar of the files: the same bytes for the same files, on every machine and at any time."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as target:
        for path, file in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.mtime = created
            member.mode = 0o755 if file.mode == b"100755" else 0o644
            if file.mode == LINK:
                member.type = tarfile.SYMTYPE
                member.linkname = file.body.decode(errors="surrogateescape")
                target.addfile(member)
            else:
                member.size = len(file.body)
                target.addfile(member, io.BytesIO(file.body))
    return made.getvalue()


def _followed(files: Files, name: str) -> bytes:
    """A file's contents, after following links inside the context; empty where there is none."""
    if name not in files:
        return b""
    path = name
    # Linux follows as many.
    for _ in range(40):
        file = files.get(path)
        if file is None:
            break
        if file.mode != LINK:
            return file.body
        target = file.body.decode(errors="surrogateescape")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    raise UsageError(
        "image-bad-dockerignore",
        f"{name} is a link to {path}, which is not a file of the build context",
        hint="Put a file in its place. Nothing was built, because files meant to be left out "
        "might get into the image.",
        where=name,
    )


def _instructed(files: Files, dockerfile: str, left_out: set[str]) -> Files:
    """The files, with a `.dockerignore` that keeps Dockerfile and
    `.dockerignore` out of the image exactly when the Dockerfile's own
    ignore file does.

    The daemon reads `.dockerignore` only, so lines are added there.
    """
    own = files[dockerignore.NAME].body if dockerignore.NAME in files else b""
    wanted = {
        name for name in (dockerfile, dockerignore.NAME) if name in left_out or name not in files
    }
    actual = dockerignore.ignored(dockerignore.patterns(own), [dockerfile, dockerignore.NAME])
    if wanted == actual:
        return files
    marks = {name: "" if name in wanted else "!" for name in wanted ^ actual}
    lines = "".join(
        f"\n{mark}{dockerignore.line_for(name)}" for name, mark in sorted(marks.items())
    )
    return {
        **files,
        dockerignore.NAME: File(b"100644", own + lines.encode(errors="surrogateescape")),
    }
