"""`.cipipe/` at the top of a repository: what cipipe stores between
commands, ignored by git.

Whoever writes below it gets the folder here.
"""

import contextlib
import os
import stat
from pathlib import Path

from cipipe.errors import StageError

NAME = ".cipipe"
_IGNORED = "# Written by cipipe: nothing in this folder belongs in a commit.\n*\n"


def own_folder(top: Path) -> Path:
    """The folder, with a `.gitignore` that ignores all of it; created where
    it is missing.

    Raises StageError.
    """
    folder = top / NAME
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
        _restrict(folder)
        # "x": a file that the user changed stays as it is.
        with contextlib.suppress(FileExistsError), (folder / ".gitignore").open("x") as file:
            file.write(_IGNORED)
    except OSError as error:
        raise StageError(
            "folder-unwritable",
            f"the folder that cipipe works in cannot be written: {error.strerror}",
            hint="Make the work tree writable for this user, and free some space if its disk is "
            "full.",
            where=str(folder),
        ) from error
    return folder


def _restrict(folder: Path) -> None:
    """Let nobody else write into it, whatever the umask was: it has plans that are applied."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o022 and folder.stat().st_uid == os.geteuid():
        folder.chmod(mode & ~0o022)
