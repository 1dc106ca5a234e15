"""The private folder of a run, below `.cipipe/run`."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cipipe.pipeline.project import Project
from cipipe.tools.own_folder import own_folder


@contextlib.contextmanager
def scratch_folder(project: Project) -> Iterator[Path]:
    """A private folder, removed afterwards.

    A killed run cannot remove its own, which has Terraform's plan in it:
    the next run does.
    """
    top = own_folder(project.repository.root) / "run"
    top.mkdir(parents=True, exist_ok=True)
    for left in top.iterdir():
        # Each folder is named after the process that made it.
        if not _is_alive(left.name.partition("-")[0]):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-", dir=top) as folder:
        yield Path(folder)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        # It exists and belongs to somebody else.
        return True
    return True
