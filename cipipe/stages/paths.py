"""Paths of the repository in settings."""

import posixpath
from collections.abc import Iterator

from cipipe.errors import Problem


def repository_path(*parts: str) -> str:
    """The parts joined and normalized, relative to the top of the
    repository, which is `""`.

    A path that leads out of the repository starts with `..`.
    """
    path = posixpath.normpath(posixpath.join(*parts).lstrip("/"))
    return "" if path == "." else path


def outside(path: str, key: str) -> Iterator[Problem]:
    """The problem of a setting whose path is not inside the repository."""
    if path.startswith(("/", "~")) or posixpath.normpath(path).split("/")[0] == "..":
        yield Problem(
            id="config-bad-path",
            message=f"{path!r} leads out of the repository",
            where=key,
            hint="Write it relative to the top of the repository, without `..`.",
        )
