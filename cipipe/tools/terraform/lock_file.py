"""The dependency lock file of a root that has none: Terraform wants one from `init` to `apply`, the
work tree does not.

It is kept beside the providers, and lies in the root only while a command runs. docs/decisions/0005
says why.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

NAME = ".terraform.lock.hcl"

_KEPT, _MARKER = "dependencies.lock.hcl", "lock-file-in"


class LockFile:
    """The lock file of a root; `data_dir` keeps a copy from one command to the next."""

    def __init__(self, root: Path, data_dir: Path) -> None:
        self.path = root / NAME
        self._kept = data_dir / _KEPT
        self._marker = data_dir / _MARKER

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """Around `init`, which writes the file where there is none, and adds to the one of an
        earlier run in this clone.
        """
        with self._lent():
            yield
        if self.path.is_file():  # the repository's own, or that of another run in this work tree
            shutil.copyfile(self.path, self._kept)

    def forget(self) -> bool:
        """Let `init` choose anew; False where it did already."""
        there = self._kept.is_file() and not os.path.lexists(self.path)
        self._kept.unlink(missing_ok=True)
        return there

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Around any other command, which only reads it."""
        with self._lent():
            yield

    @contextlib.contextmanager
    def _lent(self) -> Iterator[None]:
        if os.path.lexists(self.path) or not self.path.parent.is_dir():
            yield
            return
        self._marker.parent.mkdir(parents=True, exist_ok=True)
        with self._marker.open("a") as marker:
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
    """Remove the lock files that killed runs left in the work tree; `folder` has the data folders
    of all stages.

    One that has been committed meanwhile stays.
    """
    for marker in folder.glob(f"*/*/{_MARKER}"):
        with contextlib.suppress(OSError), marker.open("r") as file:
            fcntl.flock(
                file, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # fails while the run that made it lives
            path = Path(file.read().partition("\n")[0])
            if path.name == NAME and path.is_file() and not tracked(path):
                path.unlink()
            marker.unlink(missing_ok=True)


def _name(marker: IO[str], path: Path) -> None:
    marker.truncate(0)
    marker.write(f"{path}\n")
    marker.flush()
