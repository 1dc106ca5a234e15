"""Writes the files of a commit into a folder, whatever is checked out: for tools that read a
folder, of a commit that was deployed.

No git command checks them out: that would run filters, and download what Git LFS stores.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cipipe import tree_files
from cipipe.errors import Problem, ProblemsError
from cipipe.tools.git import lfs, submodules
from cipipe.tools.git.client import LINK, SUBMODULE, Entry, Repository

_AT_ONCE = 256
"""Files whose contents are in memory at the same time."""


def check_out(
    repository: Repository, tree: str, folder: Path, *, needed: Callable[[bytes], bool]
) -> None:
    """Write a tree into an empty folder, with submodules and the contents
    that Git LFS stores.

    What is not on this machine is left out. Raises ProblemsError where that
    is a path for which `needed` says so.
    """
    checkout = _Checkout(folder)
    checkout.write(repository, tree, b"")
    wrong = tuple(problem for path, problem in checkout.missing if needed(path))
    if wrong:
        raise ProblemsError(
            "deployed-files-missing", "files of the deployed commit are not in this clone", wrong
        )
    checkout.link()


@dataclass
class _Checkout:
    folder: Path
    missing: list[tuple[bytes, Problem]] = field(default_factory=list, init=False)
    # Written last: nothing must be written through a link.
    _links: list[tuple[Path, bytes]] = field(default_factory=list, init=False)

    def write(self, repository: Repository, tree: str, above: bytes) -> None:
        """Write a tree below `above`, which is empty or ends with a slash."""
        entries = tree_files.below(repository, tree, b"")
        files = [entry for entry in entries if entry.mode != SUBMODULE]
        for some in _batches(files):
            self._write_files(repository, some, above)
        for entry in entries:
            if entry.mode == SUBMODULE:
                self._write_submodule(repository, entry, above)

    def link(self) -> None:
        for place, target in self._links:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target.decode(errors="surrogateescape"))

    def _write_files(self, repository: Repository, entries: list[Entry], above: bytes) -> None:
        own = {entry.path: entry for entry in entries}
        bodies = repository.blobs(entries)
        for path in own.keys() - bodies.keys():
            self._miss(above + path, _unfetched(above + path))

        regular = {path: body for path, body in bodies.items() if own[path].is_blob}
        for path, pointer in lfs.pointers(regular):
            body = lfs.content(repository, path, pointer)
            if body is None:
                shown = (above + path).decode(errors="backslashreplace")
                self._miss(above + path, lfs.absent(shown, pointer))
                del bodies[path]
            else:
                bodies[path] = body

        for path, body in bodies.items():
            place = self.folder / (above + path).decode(errors="surrogateescape")
            if own[path].mode == LINK:
                self._links.append((place, body))
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(body)
            place.chmod(0o755 if own[path].mode == b"100755" else 0o644)

    def _write_submodule(self, repository: Repository, entry: Entry, above: bytes) -> None:
        path = above + entry.path
        inner = repository.submodule(entry.path)
        commit = inner.commit(entry.oid.decode()) if inner is not None else None
        if inner is None or commit is None:
            self._miss(path, submodules.absent(path, entry))
        else:
            self.write(inner, commit.tree, path + b"/")

    def _miss(self, path: bytes, problem: Problem) -> None:
        self.missing.append((path, problem))


def _batches(entries: list[Entry]) -> Iterator[list[Entry]]:
    for start in range(0, len(entries), _AT_ONCE):
        yield entries[start : start + _AT_ONCE]


def _unfetched(path: bytes) -> Problem:
    return Problem(
        id="git-file-missing",
        message="its contents are not in this clone, which is a partial one",
        where=path.decode(errors="backslashreplace"),
        hint="Fetch without --filter; a clone of depth 1 is enough.",
    )
