"""The folder of a sandbox and the state file in it: what its clients need to know. Its owner's
only, whatever the umask.
"""

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from cipipe.errors import UsageError
from cipipe.model import SCHEMA

NAME = "sandbox.json"
_ADMIN_KEY = "AKIASBOX"


class SandboxOptions(msgspec.Struct, frozen=True):
    """How a sandbox is started. `docker` False leaves Docker out; `docker_data` is a private
    daemon's data-root.
    """

    directory: Path
    account_id: str
    region: str
    attached: bool
    docker: bool
    docker_data: Path | None


def encode(options: SandboxOptions) -> str:
    """Options as the supervisor's one argument."""
    return msgspec.json.encode(options, enc_hook=os.fspath).decode()


def decode(text: str) -> SandboxOptions:
    return msgspec.json.decode(text, type=SandboxOptions, dec_hook=lambda kind, value: kind(value))


class Account(msgspec.Struct, frozen=True):
    """The administrator's keys. The secret is made when a sandbox starts, and is the same in every
    account.
    """

    id: str
    access_key_id: str
    secret_access_key: str


class SandboxState(msgspec.Struct, frozen=True):
    """Written when everything answers. `registry` is host:port; `docker_host` is None unless the
    daemon is private.
    """

    pid: int
    identity: str
    aws_url: str
    issuer_url: str
    registry: str | None
    docker_host: str | None
    account: Account
    missing: dict[str, str]
    started_at: str
    schema: int = SCHEMA


def admin_key(account_id: str) -> str:
    """The access key id of an account's administrator: it names the account."""
    return _ADMIN_KEY + account_id


def admin_account(access_key_id: str) -> str | None:
    """The account that an administrator's access key id names; None for any other key."""
    account = access_key_id.removeprefix(_ADMIN_KEY)
    return (
        account if account != access_key_id and len(account) == 12 and account.isdecimal() else None
    )


def close(directory: Path) -> None:
    """Make the folder, for its owner only. Raises UsageError where it is somebody else's."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    refuse_foreign(directory)
    directory.chmod(0o700)


def refuse_foreign(directory: Path) -> None:
    """Refuse a folder that another user owns: its state file could name any place as AWS. Raises
    UsageError.
    """
    with contextlib.suppress(FileNotFoundError):
        if directory.stat().st_uid != os.geteuid():
            raise UsageError(
                "sandbox-folder-foreign",
                "the folder of the sandbox belongs to another user",
                hint="Remove it, or set CIPIPE_SANDBOX_DIR to a folder of your own.",
                where=str(directory),
            )


def create(path: Path) -> BinaryIO:
    """An empty file that only its owner can read, in place of any that is there."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def write(directory: Path, state: SandboxState) -> None:
    """Put the state in place in one go."""
    draft = directory / f".{NAME}.{os.getpid()}"
    with create(draft) as file:
        file.write(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
    draft.replace(directory / NAME)


def read(directory: Path) -> SandboxState | None:
    """The state in a folder; None where there is none, or none of this version. Raises UsageError."""
    refuse_foreign(directory)
    try:
        return msgspec.json.decode((directory / NAME).read_bytes(), type=SandboxState)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
