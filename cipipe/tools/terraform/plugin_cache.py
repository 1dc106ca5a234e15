"""A folder of providers that several roots, and several jobs, share.

https://developer.hashicorp.com/terraform/cli/config/config-file#provider-plugin-cache
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from cipipe.errors import StageError

_LOCK = ".cipipe.lock"


def variables(folder: Path | None, *, locked: bool) -> dict[str, str]:
    """What tells Terraform to use the folder; `locked` says that a lock file is committed."""
    if folder is None:
        return {}
    found = {"TF_PLUGIN_CACHE_DIR": str(folder)}
    if not locked:
        # Terraform would download a provider again, only to complete the
        # lock file. This one is thrown away.
        found["TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE"] = "1"
    return found


@contextlib.contextmanager
def alone(folder: Path | None) -> Iterator[None]:
    """While `init` may write into the folder, which Terraform does not guard.

    Raises StageError.
    """
    if folder is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("a")
    except OSError as error:
        raise StageError(
            "terraform-plugin-cache",
            f"the plugin cache {folder} cannot be written: {error.strerror}",
            hint="Let this user write there, or change `plugin_cache`.",
            where=str(folder),
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
