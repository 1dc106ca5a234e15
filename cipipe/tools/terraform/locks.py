"""Errors for a state lock that Terraform did not get, by cause.

The texts are those of Terraform 1.9 to 1.15:
internal/command/clistate/state.go, internal/states/statemgr/locker.go and
internal/backend/remote-state/*/client.go.
"""

import re
import shlex
from datetime import UTC, datetime

import msgspec

from cipipe.errors import CipipeError, ConflictError, StageError

REFUSED = "Error acquiring the state lock"
"""The summary of Terraform's diagnostic."""

TAKEN = frozenset({"terraform-locked", "terraform-lock-taken"})
"""The ids of the errors of a lock that another has, and may release."""

DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|m|s|ms))+")
"""How Terraform writes how long something takes: `90s`, `5m`, `1h30m`."""

# What Terraform prints after the reason and the lock info.
_ADVICE = "Terraform acquires a state lock"
_FIELD = re.compile(r"^[ \t]+(ID|Path|Operation|Who|Version|Created):(.*)$", re.MULTILINE)
_HELD_ID = re.compile(r"already locked:\s+ID=(\S+)")
_CREATED = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.\d+)? ?(?:([+-]\d\d):?(\d\d)|Z)")

# The cause that comes first in the text counts. What follows is what
# Terraform did next, such as reading who has the lock, and that may fail
# for another reason.
_CAUSES = {
    "taken": (
        r"PreconditionFailed|StatusCode: 412|Error 412|ConditionalCheckFailed|[Aa]lready locked"
        r"|LeaseAlreadyPresent|ConditionalRequestConflict|status 409|StatusCode: 409"
    ),
    "denied": (
        r"AccessDenied|StatusCode: 40[13]\b|Error 40[13]\b|status 40[13]\b|requires auth"
        r"|invalid auth|not authorized|ExpiredToken|InvalidAccessKeyId|SignatureDoesNotMatch"
        r"|permission denied|Permission denied|password authentication failed"
        r"|response code: 403|is forbidden: User"
    ),
    "table": r"ResourceNotFoundException",
    "unreachable": (
        r"dial tcp|no such host|connection refused|connection reset|i/o timeout"
        r"|request send failed|TLS handshake|context deadline exceeded|giving up after"
        r"|network is unreachable|: EOF\b|x509:"
    ),
}
_FIRST = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _CAUSES.items()))


class LockInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A lock, as whoever has it described it."""

    id: str
    # `USER@HOST`
    who: str = ""
    # Such as `OperationTypeApply`.
    operation: str = ""
    path: str = ""
    # UTC; None where the text is not a time.
    created: datetime | None = None


class LockContext(msgspec.Struct, frozen=True, kw_only=True):
    """What an error needs besides Terraform's text."""

    # The command that releases a lock, without the lock's ID.
    unlock: str
    # The root, as messages name it.
    where: str
    now: datetime
    # Whether the backend's errors describe our own attempt, not the lock in
    # the way.
    own_info: bool = False


def info(text: str) -> LockInfo | None:
    """The lock info in Terraform's text; None where there is none, or one without an ID."""
    _, heading, rest = text.partition("Lock Info:")
    found = reversed(_FIELD.findall(rest.partition(_ADVICE)[0])) if heading else ()
    fields = {name: value.strip() for name, value in found}
    if not fields.get("ID"):
        return None
    return LockInfo(
        id=fields["ID"],
        who=fields.get("Who", ""),
        operation=fields.get("Operation", ""),
        path=fields.get("Path", ""),
        created=_time(fields.get("Created", "")),
    )


def held(text: str, context: LockContext) -> LockInfo | None:
    """The lock that is in the way, as far as Terraform's text says; None
    where it does not.

    From an HTTP store Terraform up to 1.14 reports only that lock's ID,
    beside the info of its own attempt.
    """
    found = info(text)
    named = _HELD_ID.search(text)
    if named is not None:
        return found if found is not None and found.id == named[1] else LockInfo(id=named[1])
    return None if context.own_info else found


def error(text: str, context: LockContext) -> CipipeError:
    """The error for Terraform's diagnostic with this detail."""
    reason = _reason(text)
    found = _FIRST.search(reason)
    cause = found.lastgroup if found else None
    lock = held(text, context)

    if lock is not None and cause not in {"denied", "table", "unreachable"}:
        return _locked(lock, context)
    if cause == "taken" or not reason:
        return ConflictError(
            "terraform-lock-taken",
            "the Terraform state was locked at that moment, and its store does not say by whom: "
            f"{reason}",
            hint="Run again: the other run may have finished. A lock that stays belongs to a "
            "process that still runs, or must be released with the store's own tools.",
            where=context.where,
        )
    if cause == "denied":
        beside = f"; there is a lock of {lock.who or 'somebody'} (ID {lock.id})" if lock else ""
        return StageError(
            "terraform-lock-denied",
            f"the store refused to lock the Terraform state: {reason}{beside}",
            hint="Waiting does not help. Let the deploying role write and delete the lock: with S3 "
            "the object KEY.tflock beside the state, with DynamoDB the items of the lock table.",
            where=context.where,
        )
    if cause == "table":
        return StageError(
            "terraform-lock-no-table",
            f"the table for the lock of the Terraform state does not exist: {reason}",
            hint="Create the DynamoDB table that `dynamodb_table` names, in the backend's region "
            "and account; or remove `dynamodb_table`: then cipipe locks by a file beside the "
            "state.",
            where=context.where,
        )
    if cause == "unreachable":
        return StageError(
            "terraform-lock-unreachable",
            f"the store could not be reached to lock the Terraform state: {reason}",
            hint="Check network and proxy, and the backend's region and address; then run again.",
            where=context.where,
        )
    return StageError(
        "terraform-lock-failed",
        f"the Terraform state could not be locked: {reason}",
        hint="The message is Terraform's own. Nothing was changed.",
        where=context.where,
    )


def is_zero(duration: str) -> bool:
    """Whether a duration is none, such as `0s`."""
    return not re.search(r"[1-9]", duration)


def unknown(lock_id: str, other: LockInfo | None, context: LockContext) -> StageError:
    """The error of releasing a lock that does not exist; `other` is the one that does."""
    if other is None:
        return StageError(
            "terraform-lock-unknown",
            f"there is no lock on the Terraform state, so none with ID {lock_id}; "
            "nothing was released",
            hint="Check the environment and the stage. If both are right, the lock is gone "
            "already: run again.",
            where=context.where,
        )
    return StageError(
        "terraform-lock-unknown",
        f"there is no lock with ID {lock_id}; the Terraform state is locked by "
        f"{_described(other, context.now)}; nothing was released",
        hint=f"To release that one: {_command(other, context)}",
        where=context.where,
    )


def age(created: datetime, now: datetime) -> str:
    """`3 hours ago`."""
    seconds = int((now - created).total_seconds())
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = seconds // length
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "less than a minute ago"


def _locked(lock: LockInfo, context: LockContext) -> ConflictError:
    return ConflictError(
        "terraform-locked",
        f"the Terraform state is locked by {_described(lock, context.now)}",
        hint="If that run is still going, let it finish. If it was killed, release its lock by "
        f"hand: {_command(lock, context)}",
        where=context.where,
    )


def _described(lock: LockInfo, now: datetime) -> str:
    since = ""
    if lock.created:
        since = f" since {lock.created:%Y-%m-%d %H:%M:%S} UTC, {age(lock.created, now)}"
    details = ", ".join(filter(None, [lock.operation, f"lock ID {lock.id}", lock.path]))
    return f"{lock.who or 'somebody'}{since} ({details})"


def _command(lock: LockInfo, context: LockContext) -> str:
    # An ID that starts with a dash would be read as an option.
    separator = "-- " if lock.id.startswith("-") else ""
    return f"{context.unlock} {separator}{shlex.quote(lock.id)}"


def _reason(text: str) -> str:
    """Terraform's own message, on one line, without the lock info and advice after it."""
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
    # The year 1 is Go's zero time: the store has no time.
    return created if created.year > 1 else None
