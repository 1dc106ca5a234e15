"""`cipipe iac push-state`: write a Terraform state that an apply could not write."""

from pathlib import Path

import msgspec

from cipipe import bounded, rescued
from cipipe.errors import UsageError
from cipipe.pipeline.infrastructure.state_client import StateClient, state_client
from cipipe.pipeline.rescued_states import rescued_states
from cipipe.pipeline.session import Session
from cipipe.stages.terraform.apply.recovery import LEFT, local_copy
from cipipe.tools.terraform import state_push


class PushedState(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    stage: str
    serial: int
    # False: the state was there already.
    written: bool


def push_saved(session: Session, stage: str | None, name: str) -> PushedState:
    """Write the state that cipipe kept under this name, and forget its copies.

    Raises UsageError, RefusedError, StageError, ConflictError.
    """
    if not rescued.is_name(name):
        raise _no_state(f"{name!r} is no ID of a state that cipipe kept")
    with state_client(session, stage) as client:
        copy = local_copy(
            session.project.repository.root,
            environment=session.environment_name,
            stage=client.stage,
            name=name,
        )
        states = rescued_states(session, client.access, client.stage)
        state = _read(copy) if copy.exists() else states.read(name)
        if state is None:
            raise _no_state(f"no state {name} is kept here, or beside the ledger")
        pushed = _push(client, state)
        states.remove(name)
        copy.unlink(missing_ok=True)
    return pushed


def push_file(session: Session, stage: str | None, file: Path) -> PushedState:
    """Write the state in a file. A file that Terraform left in the root is removed then."""
    state = _read(file)
    # Before anything is requested.
    state_push.serial_of(state)
    with state_client(session, stage) as client:
        pushed = _push(client, state)
        left = session.project.repository.root / client.root / LEFT
        if file.resolve() == left.resolve():
            file.unlink()
    return pushed


def _push(client: StateClient, state: bytes) -> PushedState:
    written = state_push.push(client.terraform.commands, state)
    serial = state_push.serial_of(state).serial
    return PushedState(stage=client.stage, serial=serial, written=written)


def _read(file: Path) -> bytes:
    try:
        return bounded.read(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _no_state(f"{file} cannot be read: {reason}") from error


def _no_state(message: str) -> UsageError:
    return UsageError(
        "terraform-no-saved-state",
        message,
        hint="Copy the command from the error of the run whose state was not written.",
    )
