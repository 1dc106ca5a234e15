"""The state file of a running sandbox: what its clients need to know. Readable by its owner only."""

import os
from pathlib import Path

import msgspec

from cipipe.model import SCHEMA

NAME = "sandbox.json"

ADMIN_SECRET = "sandbox-administrator"  # noqa: S105 - a sandbox on loopback checks no signature
_ADMIN_KEY = "AKIASBOX"


class Options(msgspec.Struct, frozen=True):
    """How a sandbox is started. `docker` False leaves Docker out; `docker_data` is a private daemon's data-root."""

    directory: Path
    account_id: str
    region: str
    attached: bool
    docker: bool
    docker_data: Path | None


def encode(options: Options) -> str:
    """Options as the supervisor's one argument."""
    return msgspec.json.encode(options, enc_hook=os.fspath).decode()


def decode(text: str) -> Options:
    return msgspec.json.decode(text, type=Options, dec_hook=lambda kind, value: kind(value))


class Account(msgspec.Struct, frozen=True):
    """The administrator's keys. `id` is the account that unsigned requests go to."""

    id: str
    access_key_id: str
    secret_access_key: str


class SandboxState(msgspec.Struct, frozen=True):
    """Written when everything answers. `registry` is host:port; `docker_host` is None unless the daemon is private."""

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
    """The access key id of an account's administrator: it names the account, and any secret goes with it."""
    return _ADMIN_KEY + account_id


def admin_account(access_key_id: str) -> str | None:
    """The account that an administrator's access key id names; None for any other key."""
    account = access_key_id.removeprefix(_ADMIN_KEY)
    return account if account != access_key_id and len(account) == 12 and account.isdecimal() else None


def write(directory: Path, state: SandboxState) -> None:
    """Put the state in place in one go."""
    draft = directory / f".{NAME}.{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
    draft.replace(directory / NAME)


def read(directory: Path) -> SandboxState | None:
    """The state in a folder; None where there is none, or none of this version."""
    try:
        return msgspec.json.decode((directory / NAME).read_bytes(), type=SandboxState)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
