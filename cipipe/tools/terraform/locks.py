"""What Terraform says of a state lock that it did not get → an error that tells the causes apart.

Only lock info that Terraform read from the store says who holds a lock. The texts are those of
Terraform 1.9 to 1.15: internal/command/clistate/state.go, internal/states/statemgr/locker.go and
internal/backend/remote-state/*/client.go.
"""

import re
import shlex
from datetime import UTC, datetime

import msgspec

from cipipe.errors import CipipeError, ConflictError, StageError

REFUSED = "Error acquiring the state lock"
"""The summary of Terraform's diagnostic."""

_ADVICE = "Terraform acquires a state lock"
_FIELD = re.compile(r"^[ \t]+(ID|Path|Operation|Who|Version|Created):(.*)$", re.MULTILINE)
_HELD_ID = re.compile(r"already locked:\s+ID=(\S+)")
_CREATED = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.\d+)? ?(?:([+-]\d\d):?(\d\d)|Z)")

# The first one that stands in the text counts: what follows it is what Terraform did about it, such
# as asking who holds the lock, and that may fail for another reason.
_CAUSES = {
    "taken": r"PreconditionFailed|StatusCode: 412|Error 412|ConditionalCheckFailed|[Aa]lready locked|LeaseAlreadyPresent"
    r"|ConditionalRequestConflict|status 409|StatusCode: 409",
    "denied": r"AccessDenied|StatusCode: 40[13]\b|Error 40[13]\b|status 40[13]\b|requires auth|invalid auth"
    r"|not authorized|ExpiredToken|InvalidAccessKeyId|SignatureDoesNotMatch|permission denied|Permission denied"
    r"|password authentication failed|response code: 403|is forbidden: User",
    "table": r"ResourceNotFoundException",
    "unreachable": r"dial tcp|no such host|connection refused|connection reset|i/o timeout|request send failed"
    r"|TLS handshake|context deadline exceeded|giving up after|network is unreachable|: EOF\b|x509:",
}
_FIRST = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _CAUSES.items()))


class LockInfo(msgspec.Struct, frozen=True):
    """A lock as its holder described it. `created` is UTC, None where the text is no time."""

    id: str
    who: str = ""
    operation: str = ""
    path: str = ""
    created: datetime | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What an error needs besides Terraform's text.

    `unlock` is the command that releases a lock, without its ID. `own_info`: this backend's errors
    carry the info of the lock that was asked for, not of the one that is held.
    """

    unlock: str
    where: str
    now: datetime
    own_info: bool = False


def info(text: str) -> LockInfo | None:
    """The lock info in a text of Terraform's; None where there is none, or one without an ID."""
    _, heading, rest = text.partition("Lock Info:")
    found = reversed(_FIELD.findall(rest.partition(_ADVICE)[0])) if heading else ()
    fields = {name: value.strip() for name, value in found}
    if not fields.get("ID"):
        return None
    return LockInfo(
        fields["ID"],
        who=fields.get("Who", ""),
        operation=fields.get("Operation", ""),
        path=fields.get("Path", ""),
        created=_time(fields.get("Created", "")),
    )


def held(text: str, asked: Asked) -> LockInfo | None:
    """The lock that the store holds, as far as a text of Terraform's says; None where it does not.

    Of an HTTP store Terraform passes on the ID alone, up to version 1.14, and beside it the info of
    its own attempt.
    """
    found, named = info(text), _HELD_ID.search(text)
    if named is not None:
        return found if found is not None and found.id == named[1] else LockInfo(named[1])
    return None if asked.own_info else found


def error(text: str, asked: Asked) -> CipipeError:
    """The error of a lock that was not got: `text` is the detail of Terraform's diagnostic."""
    reason = _reason(text)
    found = _FIRST.search(reason)
    cause = found.lastgroup if found else None
    lock = held(text, asked)

    if lock is not None and cause not in {"denied", "table", "unreachable"}:
        return _locked(lock, asked)
    if cause == "taken" or not reason:
        return ConflictError(
            "terraform-lock-taken",
            f"the Terraform state was locked at that moment, and its store does not say by whom: {reason}",
            hint="Run again; the other one may have ended already. A lock that stays belongs to a process that still "
            "runs, or has to be released with the store's own tools.",
            where=asked.where,
        )
    if cause == "denied":
        beside = f"; a lock of {lock.who or 'somebody'} (ID {lock.id}) lies there" if lock else ""
        return StageError(
            "terraform-lock-denied",
            f"the store refused to lock the Terraform state: {reason}{beside}",
            hint="Nobody has to be waited for. Let the deploying role write and delete the lock: with S3 the object "
            "KEY.tflock beside the state, with DynamoDB the items of the lock table.",
            where=asked.where,
        )
    if cause == "table":
        return StageError(
            "terraform-lock-no-table",
            f"the table for the lock of the Terraform state does not exist: {reason}",
            hint="Create the DynamoDB table that `dynamodb_table` names, in the backend's region and account; or remove "
            "`dynamodb_table`: cipipe then locks by a file beside the state.",
            where=asked.where,
        )
    if cause == "unreachable":
        return StageError(
            "terraform-lock-unreachable",
            f"the store could not be reached to lock the Terraform state: {reason}",
            hint="Check network and proxy, and the backend's region and address; then run again.",
            where=asked.where,
        )
    return StageError(
        "terraform-lock-failed",
        f"the Terraform state could not be locked: {reason}",
        hint="The message is Terraform's own. Nothing was changed.",
        where=asked.where,
    )


def unknown(lock_id: str, other: LockInfo | None, asked: Asked) -> StageError:
    """The error of releasing a lock that is not there; `other` is the one that is."""
    if other is None:
        return StageError(
            "terraform-lock-unknown",
            f"there is no lock on the Terraform state, so none with ID {lock_id}; nothing was released",
            hint="Check the environment and the stage. If both are right, the lock is gone already: run again.",
            where=asked.where,
        )
    return StageError(
        "terraform-lock-unknown",
        f"there is no lock with ID {lock_id}; the Terraform state is locked by {_described(other, asked.now)}; "
        "nothing was released",
        hint=f"If that one is to be released: {_command(other, asked)}",
        where=asked.where,
    )


def age(created: datetime, now: datetime) -> str:
    """`3 hours ago`."""
    seconds = int((now - created).total_seconds())
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = seconds // length
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "less than a minute ago"


def _locked(lock: LockInfo, asked: Asked) -> ConflictError:
    return ConflictError(
        "terraform-locked",
        f"the Terraform state is locked by {_described(lock, asked.now)}",
        hint="If that run is still going, let it finish. If it was killed, release its lock by hand: "
        f"{_command(lock, asked)}",
        where=asked.where,
    )


def _described(lock: LockInfo, now: datetime) -> str:
    since = (
        f" since {lock.created:%Y-%m-%d %H:%M:%S} UTC, {age(lock.created, now)}"
        if lock.created
        else ""
    )
    details = [lock.operation, f"lock ID {lock.id}", lock.path]
    return f"{lock.who or 'somebody'}{since} ({', '.join(detail for detail in details if detail)})"


def _command(lock: LockInfo, asked: Asked) -> str:
    separator = "-- " if lock.id.startswith("-") else ""
    return f"{asked.unlock} {separator}{shlex.quote(lock.id)}"


def _reason(text: str) -> str:
    """Terraform's own message, on one line: the text without the lock info and the advice behind
    it.
    """
    text = text.partition(REFUSED)[2] or text
    message = text.partition(_ADVICE)[0].partition("Lock Info:")[0]
    return " ".join(message.split()).removeprefix("Error message:").strip()


def _time(text: str) -> datetime | None:
    found = _CREATED.match(text)
    if found is None:
        return None
    day, clock, hours, minutes = found.groups()
    zone = f"{hours}:{minutes}" if hours else "+00:00"
    try:
        created = datetime.fromisoformat(f"{day}T{clock}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return created if created.year > 1 else None  # Go's zero time: the store has none
