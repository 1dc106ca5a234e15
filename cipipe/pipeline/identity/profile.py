"""The AWS profile that child processes work with: they ask this run for credentials, as often as
they need to.

It lies in a private folder, which holds no secret: a configuration file, the program that it names,
and the socket that this one connects to. docs/decisions/0006 says why it is done so.
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

_PREFIX, _DRAFT = "cipipe-run-", "cipipe-new-"
_DRAFTED = 600.0  # seconds; a draft that is still being made is one for a moment only
_SAFE = re.compile(r"[A-Za-z0-9/._-]{1,70}")


@contextlib.contextmanager
def served(access: "Access", warn: Callable[[str], None]) -> Iterator["Access"]:
    """The same access, whose children get their credentials from this process for as long as the
    block lasts.

    Credentials of a person's own, which this process cannot renew, are left to the children as they
    are.
    """
    if access.renewed is None:
        yield access
        return
    from cipipe.oidc import agent

    with _folder() as folder, agent.serving(folder / "socket", access.renewed.current, warn):
        (folder / "no-keys").touch(mode=0o600)
        _write(folder / "credentials", _program(folder / "socket"))
        # AWS's tools split this line each in their own way, or hand it to a shell: nothing in it
        # wants quoting.
        region = access.aws.endpoint.region
        _write(
            folder / "config",
            f"[profile {NAME}]\ncredential_process = /bin/sh {folder / 'credentials'}\nregion = {region}\n",
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
    """A shell script that runs this very cipipe, whatever the environment of the process that asks."""
    here = str(Path(__file__).resolve().parents[3])
    code = f"import sys; sys.path.insert(0, {here!r}); from cipipe.__main__ import entry; entry()"
    argv = [sys.executable, "-I", "-c", code, "oidc", "credential-process", "--socket", str(socket)]
    return f"exec {shlex.join(argv)}\n"


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A private folder with a short and plain path: a socket's may have some hundred characters.

    It is locked for as long as this process lives, so that a later run can tell and remove those of
    killed ones.
    """
    top = Path(tempfile.gettempdir())
    top = top if _SAFE.fullmatch(str(top)) else Path("/tmp")  # noqa: S108 - mkdtemp makes the folder in it
    _sweep(top)
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=top))
    folder = draft.with_name(draft.name.replace(_DRAFT, _PREFIX, 1))
    try:
        with (draft / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            draft.rename(folder)
            yield folder
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(top: Path) -> None:
    for draft in top.glob(f"{_DRAFT}*"):
        with contextlib.suppress(OSError):
            found = draft.stat(follow_symlinks=False)
            if found.st_uid == os.getuid() and time.time() - found.st_mtime > _DRAFTED:
                shutil.rmtree(draft, ignore_errors=True)
    for left in top.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, or gone meanwhile
            if left.stat(follow_symlinks=False).st_uid != os.getuid():
                continue
            with (left / "lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
