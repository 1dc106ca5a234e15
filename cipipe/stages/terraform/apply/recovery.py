"""A state that an apply could not write: kept in private, and in the way of
the next run until it is written.

Terraform leaves it in the work tree, as `errored.tfstate`. There it is
readable, ends up in commits, and is lost with the job.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cipipe import rescued
from cipipe.errors import CipipeError, RefusedError, UsageError
from cipipe.model import Record
from cipipe.redact import MASK
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.terraform.root import push_command
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.tools.own_folder import own_folder

if TYPE_CHECKING:
    from cipipe.tools.terraform.client import Terraform

LEFT = "errored.tfstate"
"""The name of the file that Terraform leaves."""

_KEY = "unsaved_state"


class UnsavedState(msgspec.Struct, frozen=True):
    """What the stage's record says of a state that was not written."""

    name: str
    lineage: str
    serial: int
    # Whether it is kept beside the ledger.
    stored: bool


class Rescued(msgspec.Struct, frozen=True, kw_only=True):
    """Where the state is kept, for people, and the command that writes it."""

    places: tuple[str, ...]
    command: str


def local_copy(top: Path, *, environment: str, stage: str, name: str) -> Path:
    """Where this machine keeps a state."""
    return own_folder(top) / "recovered" / environment / stage / f"{name}.tfstate"


def refuse_unwritten(context: StageContext[TerraformSettings], client: "Terraform") -> None:
    """Raise RefusedError where an earlier apply's state was not written yet:
    a plan would create again what it created.
    """
    left = _left(context)
    if left.exists():
        raise RefusedError(
            "terraform-state-pending",
            f"{left.relative_to(context.repository.root)} is the state of an apply that could not "
            "write it, and a plan without it would create the same resources again",
            hint=f"Write it: {push_command(context, os.path.relpath(left))}",
            where=context.stage.settings.root,
        )

    unsaved = _unsaved(context.previous)
    if unsaved is None:
        return
    # A plan imports nothing that starts processes.
    from cipipe.tools.terraform import state_push

    now = state_push.current(client.commands)
    if now.lineage != unsaved.lineage or now.serial >= unsaved.serial:
        return
    if unsaved.stored and not _is_kept(context, unsaved.name):
        context.line(f"the state {unsaved.name} was never written, and somebody deleted it")
        return
    raise RefusedError(
        "terraform-state-pending",
        "the last apply could not write its state: the backend's has serial "
        f"{now.serial}, that of the apply {unsaved.serial}. A plan without it would create the "
        "same resources again",
        hint=f"Write it: {push_command(context, '--saved', unsaved.name)}",
        where=context.stage.settings.root,
    )


def rescue(
    context: StageContext[TerraformSettings], result: StageResult, dumped: Any = None
) -> Rescued | None:
    """Keep the state that Terraform left in the root, or `dumped` into its
    log, and note it in the stage's data. None where there is none.
    """
    from cipipe.tools.terraform import state_push

    left = _left(context)
    state = _state(left, dumped)
    if state is None:
        return None
    try:
        serial = state_push.serial_of(state)
    except UsageError:
        return None

    name = rescued.new_name()
    copy = _kept_here(context, name, state)
    url = _kept_there(context, name, state)
    unsaved = UnsavedState(name, serial.lineage, serial.serial, stored=url is not None)
    result.data = {**result.data, _KEY: msgspec.to_builtins(unsaved)}
    if copy is None and url is None:
        file = os.path.relpath(left)
        return Rescued(places=(str(left),), command=push_command(context, file))
    left.unlink(missing_ok=True)
    places = (str(copy) if copy else None, url)
    return Rescued(
        places=tuple(place for place in places if place),
        command=push_command(context, "--saved", name),
    )


def _left(context: StageContext[TerraformSettings]) -> Path:
    return context.repository.root / context.stage.settings.root / LEFT


def _unsaved(record: Record | None) -> UnsavedState | None:
    try:
        return msgspec.convert((record.data if record else {}).get(_KEY), UnsavedState | None)
    except msgspec.ValidationError:
        return None


def _is_kept(context: StageContext[TerraformSettings], name: str) -> bool:
    if _copy(context, name).exists():
        return True
    return context.rescued is not None and context.rescued.read(name) is not None


def _state(left: Path, dumped: Any) -> bytes | None:
    if left.is_file():
        return left.read_bytes()
    if dumped is None:
        return None
    # What went through the log has known secrets masked, and would put the
    # mask into the state.
    encoded = msgspec.json.encode(dumped)
    return None if MASK.encode() in encoded else encoded


def _copy(context: StageContext[TerraformSettings], name: str) -> Path:
    return local_copy(
        context.repository.root,
        environment=context.environment_name,
        stage=context.stage.name,
        name=name,
    )


def _kept_here(context: StageContext[TerraformSettings], name: str, state: bytes) -> Path | None:
    try:
        file = _copy(context, name)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as private:
            private.write(state)
    except OSError as error:
        context.line(f"warning: the state cannot be kept on this machine: {error.strerror}")
        return None
    return file


def _kept_there(context: StageContext[TerraformSettings], name: str, state: bytes) -> str | None:
    if context.rescued is None:
        return None
    try:
        return context.rescued.store(name, state)
    except CipipeError as error:
        context.line(f"warning: the state cannot be kept beside the ledger: {error.message}")
        return None
