"""Writing a state that an apply could not write, without losing a newer one."""

import msgspec

from cipipe import bounded
from cipipe.errors import ConflictError, RefusedError, UsageError
from cipipe.tools import process
from cipipe.tools.terraform.commands import Commands


class StateSerial(msgspec.Struct, frozen=True):
    """Which state this is, and which version of it."""

    # Empty where there is no state.
    lineage: str = ""
    serial: int = 0


def serial_of(state: bytes) -> StateSerial:
    """That of a state file. Raises UsageError for anything else."""
    try:
        found: StateSerial = bounded.decode(state, type=StateSerial)
    except msgspec.MsgspecError:
        found = StateSerial()
    if not found.lineage:
        raise UsageError(
            "terraform-not-a-state",
            "the file is not a Terraform state with a lineage",
            hint="Pass the file that Terraform or cipipe kept, whole and unchanged.",
        )
    return found


def current(commands: Commands) -> StateSerial:
    """That of the state in the backend."""
    return _read(_pulled(commands))


def push(commands: Commands, state: bytes) -> bool:
    """Write a state to the backend; False where it is there already.

    Raises RefusedError for a state of something else, ConflictError where
    the backend has the same or a newer version with other contents.
    """
    wanted = serial_of(state)
    pulled = _pulled(commands)
    there = _read(pulled)
    if there.lineage and there.lineage != wanted.lineage:
        raise RefusedError(
            "terraform-state-foreign",
            f"the file is a version of another state: its lineage is {wanted.lineage}, that of "
            f"the state in the backend is {there.lineage}",
            hint="Check --env and --stage. Nothing was written.",
            where=commands.where,
        )
    if there.lineage and there.serial >= wanted.serial:
        if _contents(pulled.stdout) == _contents(state):
            return False
        raise ConflictError(
            "terraform-state-newer",
            f"the state in the backend is newer: its serial is {there.serial}, that of the file "
            f"is {wanted.serial}",
            hint="Nothing was written. Somebody applied in the meantime: compare both, and import "
            "what only the file has with `terraform import`.",
            where=commands.where,
        )

    def write(lock: str, _: object) -> None:
        done = commands.call(["state", "push", "-no-color", lock, "-"], stdin=state)
        if done.returncode != 0:
            raise commands.failed("state push", done)

    commands.locking(write)
    return True


def _pulled(commands: Commands) -> process.Completed:
    pulled = commands.call(["state", "pull", "-no-color"])
    if pulled.returncode != 0:
        raise commands.failed("state pull", pulled)
    return pulled


def _read(pulled: process.Completed) -> StateSerial:
    if not pulled.stdout.strip():
        return StateSerial()
    found: StateSerial = process.document(pulled, StateSerial)
    return found


def _contents(state: bytes) -> object:
    """What a state says of the world, without its version."""
    found = bounded.decode(state)
    return [found.get("resources") or [], found.get("outputs") or {}]
