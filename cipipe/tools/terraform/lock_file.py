"""The dependency lock file of a root that has not committed one.

Terraform needs it from `init` to `apply`, and it must not stay in the work
tree. So it is stored beside the providers, and is in the root only while a
command runs: docs/decisions/0005 says why.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

NAME = ".terraform.lock.hcl"

_KEPT, _MARKER = "dependencies.lock.hcl", "lock-file-in"


class LockFile:
    """The lock file of a root. `data_dir` has a copy of it from one command to the next."""

    def __init__(self, root: Path, data_dir: Path) -> None:
        self.path = root / NAME
        self._kept = data_dir / _KEPT
        self._marker = data_dir / _MARKER

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """While `init` runs: it writes the file, or adds to an earlier run's of this clone."""
        with self.present():
            yield
        if self.path.is_file():
            # The repository's own, or that of another run in this work
            # tree: this clone's next command needs the same versions, even
            # when the file is gone by then.
            shutil.copyfile(self.path, self._kept)

    @property
    def committed(self) -> bool:
        """Whether the root has one of its own; only outside of `present` and `written`."""
        return os.path.lexists(self.path)

    def current(self) -> Path:
        """The file that the next command will read."""
        return self.path if self.committed else self._kept

    def digest(self) -> str | None:
        """The SHA-256 of that file; None where there is none, because the root has no providers."""
        file = self.current()
        return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None

    def forget(self) -> bool:
        """Let `init` choose the versions again; False where it did already."""
        there = self._kept.is_file() and not os.path.lexists(self.path)
        self._kept.unlink(missing_ok=True)
        return there

    @contextlib.contextmanager
    def present(self) -> Iterator[None]:
        """While any other command runs, which only reads the file."""
        # lexists: a broken link is the repository's own as well.
        if os.path.lexists(self.path) or not self.path.parent.is_dir():
            yield
            return
        self._marker.parent.mkdir(parents=True, exist_ok=True)
        with self._marker.open("a") as marker:
            # Locked for as long as this process lives: `sweep` leaves such
            # a file alone.
            fcntl.flock(marker, fcntl.LOCK_SH)
            _name(marker, self.path)
            if self._kept.is_file():
                shutil.copyfile(self._kept, self.path)
            try:
                yield
            finally:
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(self.path, self._kept)
                    self.path.unlink()
                self._marker.unlink(missing_ok=True)


def sweep(folder: Path, tracked: Callable[[Path], bool]) -> None:
    """Remove lock files that killed runs left in the work tree.

    `folder` has the data folders of all stages. A file that was committed
    in the meantime stays.
    """
    for marker in folder.glob(f"*/*/{_MARKER}"):
        with contextlib.suppress(OSError), marker.open("r") as file:
            # Fails while the run that wrote it lives.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path = Path(file.read().partition("\n")[0])
            if path.name == NAME and path.is_file() and not tracked(path):
                path.unlink()
            marker.unlink(missing_ok=True)


def _name(marker: IO[str], path: Path) -> None:
    marker.truncate(0)
    marker.write(f"{path}\n")
    marker.flush()
