"""Faults of the machine that any code may run into: a full disk, a
read-only folder, too many open files.

They are no bugs, so people get an error that says what to do, and no
traceback.
"""

import errno
import os

from cipipe.errors import StageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}


def fault(error: OSError) -> StageError | None:
    """The error that explains it; None if the machine is not the cause."""
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StageError(
            "disk-full",
            f"a file could not be written: {reason}",
            hint="Free some space, or raise the limit, and run again: what was not finished is "
            "due.",
            where=where,
        )
    if error.errno in _REFUSED:
        return StageError(
            "file-refused",
            f"a file could not be used: {reason}",
            hint="Make it accessible for this user, and its file system writable. Then run again.",
            where=where,
        )
    if error.errno in _EXHAUSTED:
        return StageError(
            "machine-exhausted",
            f"this process has reached a limit of the system: {reason}",
            hint="Raise its limits (`ulimit -a` shows them), or run less at the same time. Then "
            "run again.",
            where=where,
        )
    # `tempfile` has no exception of its own for this.
    if isinstance(error, FileNotFoundError) and "usable temporary directory" in reason:
        return StageError(
            "no-temporary-folder",
            "no folder for temporary files can be written",
            hint="Free some space in /tmp, or set TMPDIR to a folder that can be written.",
        )
    return None
