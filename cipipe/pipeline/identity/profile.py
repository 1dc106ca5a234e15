"""The AWS profile of child processes: they get credentials from this run,
as often as they need.

The profile is in a private folder without any secret: a configuration file,
the program that it names, and the socket that the program connects to.
docs/decisions/0006 says why.
"""

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cipipe.pipeline.identity.tokens import STRIPPED

if TYPE_CHECKING:
    from cipipe.pipeline.identity.access import Access

NAME = "cipipe"

_PREFIX = "cipipe-run-"
_DRAFT = "cipipe-new-"

# Seconds. A draft exists for a moment only, so an older one was left by a
# killed process.
_DRAFT_AGE = 600.0

# A path that no shell and no splitting of words changes, and that fits into
# a socket's address.
_SAFE = re.compile(r"[A-Za-z0-9/._-]{1,70}")


@contextlib.contextmanager
def served(access: "Access", warn: Callable[[str], None]) -> Iterator["Access"]:
    """The same access, whose children get credentials from this process
    while the block runs.

    A person's own credentials, which this process cannot renew, are passed
    to the children as they are.
    """
    if access.renewed is None:
        yield access
        return
    from cipipe.oidc import agent

    with _folder() as folder, agent.serving(folder / "socket", access.renewed.current, warn):
        # An empty file, so that no other credentials of this machine are
        # found.
        (folder / "no-keys").touch(mode=0o600)
        _write(folder / "credentials", _program(folder / "socket"))
        # Each of AWS's tools splits this line in its own way, or gives it
        # to a shell: nothing in it may need quoting.
        command = f"/bin/sh {folder / 'credentials'}"
        region = access.aws.endpoint.region
        _write(
            folder / "config",
            f"[profile {NAME}]\ncredential_process = {command}\nregion = {region}\n",
        )
        kept = {key: value for key, value in access.child_env.items() if key not in STRIPPED}
        profile = {
            "AWS_PROFILE": NAME,
            "AWS_CONFIG_FILE": str(folder / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-keys"),
            "AWS_SDK_LOAD_CONFIG": "1",
        }
        yield msgspec.structs.replace(access, child_env=kept | profile)


def _program(socket: Path) -> str:
    """A shell script that runs this very cipipe, whatever the environment of its caller."""
    package = str(Path(__file__).resolve().parents[3])
    code = (
        f"import sys; sys.path.insert(0, {package!r}); from cipipe.__main__ import entry; entry()"
    )
    argv = [sys.executable, "-I", "-c", code, "oidc", "credential-process", "--socket", str(socket)]
    return f"exec {shlex.join(argv)}\n"


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A private folder with a short and plain path.

    It is locked while this process lives, so that later runs can tell it
    from those of killed ones.
    """
    top = Path(tempfile.gettempdir())
    if not _SAFE.fullmatch(str(top)):
        top = Path("/tmp")  # noqa: S108 - mkdtemp makes the folder in it
    _sweep(top)
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=top))
    folder = draft.with_name(draft.name.replace(_DRAFT, _PREFIX, 1))
    try:
        with (draft / "lock").open("w") as lock:
            # Locked before it gets its name: another run's sweep finds no
            # folder without a lock.
            fcntl.flock(lock, fcntl.LOCK_EX)
            draft.rename(folder)
            yield folder
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(top: Path) -> None:
    """Remove what killed runs of this user left."""
    for draft in top.glob(f"{_DRAFT}*"):
        with contextlib.suppress(OSError):
            found = draft.stat(follow_symlinks=False)
            if found.st_uid == os.getuid() and time.time() - found.st_mtime > _DRAFT_AGE:
                shutil.rmtree(draft, ignore_errors=True)
    for left in top.glob(f"{_PREFIX}*"):
        # It may belong to another user, or be gone by now, or still be
        # locked.
        with contextlib.suppress(OSError):
            if left.stat(follow_symlinks=False).st_uid != os.getuid():
                continue
            with (left / "lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    """Create a file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
