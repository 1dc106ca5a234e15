"""Paths in a git tree, with symbolic links followed as a file system does."""

import posixpath

from cipipe.stages.paths import repository_path
from cipipe.tools.git.client import LINK, Entry, Repository

_MAX_LINKS = 40
"""In one path, as on Linux. This ends a path whose links lead to each other."""


class Links:
    """One tree; each folder of it is listed once."""

    def __init__(self, repository: Repository, tree: str) -> None:
        self.repository = repository
        self._tree = tree
        self._folders: dict[str, dict[str, Entry]] = {}

    def listing(self, folder: str) -> dict[str, Entry]:
        """The entries of a folder by name; none if there is no such folder."""
        if folder not in self._folders:
            entries = self.repository.listing(self._tree, folder)
            names = (entry.path.decode(errors="surrogateescape") for entry in entries)
            self._folders[folder] = {
                posixpath.basename(name): e for name, e in zip(names, entries, strict=True)
            }
        return self._folders[folder]

    def followed(self, path: str) -> str:
        """Where a path leads, relative to the top of the repository. It may
        lead out of it: such a path starts with `..` or `/`.
        """
        # The segments that have not been looked up yet, the next one last.
        waiting = path.split("/")[::-1] if path else []
        at = ""
        followed = 0
        while waiting:
            name = waiting.pop()
            at = repository_path(at, name)
            if at.split("/")[0] == "..":
                return repository_path(at, *waiting[::-1])
            entry = self.listing(posixpath.dirname(at)).get(posixpath.basename(at))
            if entry is None or entry.mode != LINK or followed == _MAX_LINKS:
                continue

            followed += 1
            blobs = self.repository.blobs([entry], keep=True)
            target = blobs.get(entry.path, b"").decode(errors="surrogateescape")
            if target.startswith("/"):
                return posixpath.join(target, *waiting[::-1])
            waiting += target.split("/")[::-1]
            at = posixpath.dirname(at)
        return at

    def file(self, folder: str, name: str) -> Entry | None:
        """A file's entry, or that of the file that a link leads to."""
        entry = self.listing(folder).get(name)
        if entry is not None and entry.mode == LINK:
            path = self.followed(repository_path(folder, name))
            entry = None
            if not path.startswith("/") and path.split("/")[0] != "..":
                entry = self.listing(posixpath.dirname(path)).get(posixpath.basename(path))
        return entry if entry is not None and entry.is_blob else None
