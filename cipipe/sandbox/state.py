"""The folder of a sandbox, and the state file in it that tells clients how
to reach it.

Only the owner can read either of them, whatever the umask.
"""

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from cipipe.errors import UsageError
from cipipe.model import SCHEMA

NAME = "sandbox.json"

# An administrator's access key id is this prefix and the account's number.
_ADMIN_KEY = "AKIASBOX"


class SandboxOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a sandbox is started."""

    # Keeps the state, the logs and the registry's images. One sandbox per
    # folder.
    directory: Path

    # The account whose administrator `Sandbox.admin` is; every other
    # account exists as well.
    account_id: str
    region: str = "eu-central-1"

    # An attached sandbox stops when the process that started it does.
    attached: bool = True

    # False: no Docker at all, which starts sooner.
    docker: bool = True

    # Whether roles may only do what their policies allow.
    enforce_iam: bool = False

    # The data-root of a private Docker daemon; None for one inside
    # `directory`.
    docker_data: Path | None = None


def encode(options: SandboxOptions) -> str:
    """Options as the supervisor's only argument."""
    return msgspec.json.encode(options, enc_hook=os.fspath).decode()


def decode(text: str) -> SandboxOptions:
    return msgspec.json.decode(text, type=SandboxOptions, dec_hook=lambda kind, value: kind(value))


class Account(msgspec.Struct, frozen=True):
    """An administrator's keys."""

    id: str
    access_key_id: str

    # Random for each start of a sandbox, and the same in all of its
    # accounts.
    secret_access_key: str


class SandboxState(msgspec.Struct, frozen=True, kw_only=True):
    """The state file. It is written once every service answers."""

    # The supervisor's process, and the random text with which its health
    # check answers: a pid alone may belong to another process by now.
    pid: int
    identity: str

    aws_url: str
    issuer_url: str
    # The store of Terraform states that are not in S3.
    states_url: str

    # HOST:PORT; None where no registry is installed.
    registry: str | None

    # The address of a private daemon; None where the machine's own daemon
    # is used.
    docker_host: str | None
    account: Account

    # Tool → how to install it.
    missing: dict[str, str]

    # Whether roles may only do what their policies allow.
    enforces_iam: bool = False

    # ISO 8601.
    started_at: str
    schema: int = SCHEMA


def admin_key(account_id: str) -> str:
    """The access key id of an account's administrator, which contains the account's number."""
    return _ADMIN_KEY + account_id


def admin_account(access_key_id: str) -> str | None:
    """The account of an administrator's access key id; None for any other key."""
    account = access_key_id.removeprefix(_ADMIN_KEY)
    if account == access_key_id:
        return None
    return account if len(account) == 12 and account.isdecimal() else None


def close(directory: Path) -> None:
    """Create the folder and make it private. Raises UsageError if it belongs to another user."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    refuse_foreign(directory)

    # A folder that existed before keeps its mode with mkdir.
    directory.chmod(0o700)


def refuse_foreign(directory: Path) -> None:
    """Raise UsageError if another user owns the folder: its state file could send us anywhere."""
    with contextlib.suppress(FileNotFoundError):
        if directory.stat().st_uid != os.geteuid():
            raise UsageError(
                "sandbox-folder-foreign",
                "the folder of the sandbox belongs to another user",
                hint="Remove it, or set CIPIPE_SANDBOX_DIR to a folder of your own.",
                where=str(directory),
            )


def create(path: Path) -> BinaryIO:
    """A new empty file that only its owner can read; an existing file is replaced."""
    path.unlink(missing_ok=True)

    # O_EXCL: whoever creates the path in between makes this fail instead of
    # reading along.
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def write(directory: Path, state: SandboxState) -> None:
    """Write the state file atomically."""
    draft = directory / f".{NAME}.{os.getpid()}"
    with create(draft) as file:
        file.write(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
    draft.replace(directory / NAME)


def read(directory: Path) -> SandboxState | None:
    """The state in a folder; None if there is none or it has another version. Raises UsageError."""
    refuse_foreign(directory)
    try:
        return msgspec.json.decode((directory / NAME).read_bytes(), type=SandboxState)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
