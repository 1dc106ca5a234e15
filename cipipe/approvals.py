"""Plans that are saved until people have approved them: what describes one,
and its ID. Pure data; `saved_plans.py` stores them.
"""

import re
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from cipipe.errors import RefusedError
from cipipe.model import Mode

ID_VARIABLE = "CIPIPE_PLAN_ID"
"""What hands a plan's ID from one job to another."""

VALID_HOURS = 24
MOST_HOURS = 7 * 24

_TIME = "%Y%m%dT%H%M%SZ"
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}"
_ID = re.compile(
    rf"(?P<environment>{_NAME})\.(?P<stage>{_NAME})\.(?P<time>\d{{8}}T\d{{6}}Z)\.[0-9a-f]{{20}}"
)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a plan may be applied. No field has a secret."""

    project: str
    environment: str
    stage: str
    account_id: str
    region: str
    # The type, and a digest of the settings.
    backend: str
    workspace: str


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """What made a plan."""

    cipipe: str
    terraform: str
    # The SHA-256 of the dependency lock file; None without providers.
    providers: str | None


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan was made from."""

    commit: str
    fingerprint: str
    # The digest of the fingerprint and the outputs that the stage consumes.
    effective: str
    # The ETag of the stage's record; None where there was none.
    record: str | None


class SavedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a saved plan."""

    schema: int
    id: str
    place: Place
    content: Content
    versions: Versions
    mode: Mode

    # Of the plan, as hex.
    sha256: str
    # How many resources it creates, updates, … by action.
    counts: dict[str, int]
    # Resources that hold data may be deleted or replaced: --allow-replace.
    allow_replace: bool

    # ISO 8601, UTC.
    created_at: str
    expires_at: str

    # Who made it.
    provider: str | None
    pipeline_url: str | None
    actor: str | None

    # When it was applied, or tried to be, and by whom.
    used_at: str | None = None
    used_by: str | None = None


class ApprovedPlan(msgspec.Struct, frozen=True):
    """A saved plan that is about to be applied."""

    plan: SavedPlan
    body: bytes
    # Marks it as used. Raises RefusedError if somebody was faster.
    use: Callable[[], None]


def new_id(environment: str, stage: str, now: datetime) -> str:
    """An ID that says what it is for, and that nobody can guess."""
    return f"{environment}.{stage}.{now.strftime(_TIME)}.{secrets.token_hex(10)}"


def environment_of(id: str) -> str:
    """The environment that a plan was made for. Raises RefusedError where the ID is none."""
    return _parts(id)["environment"]


def stage_of(id: str) -> str:
    """The stage that a plan was made for. Raises RefusedError where the ID is none."""
    return _parts(id)["stage"]


def is_older(id: str, time: datetime) -> bool:
    """Whether this is the ID of a plan that was saved before that time."""
    found = _ID.fullmatch(id)
    return found is not None and found["time"] < time.strftime(_TIME)


def _parts(id: str) -> re.Match[str]:
    found = _ID.fullmatch(id)
    if found is None:
        raise RefusedError(
            "saved-plan-unknown",
            f"{id!r} is not the ID of a saved plan",
            hint="Copy the whole ID: environment, stage, time and 20 hex digits, between dots.",
            where="--plan",
        )
    return found


def times(now: datetime, *, hours: int) -> tuple[str, str]:
    """When a plan that is made now was created, and when it expires."""
    return as_text(now), as_text(now + timedelta(hours=hours))


def refused_used(plan: SavedPlan) -> RefusedError:
    """The error for a plan that was applied, or tried to be."""
    return RefusedError(
        "saved-plan-used",
        f"the saved plan {plan.id} was used already, by {plan.used_by} at {plan.used_at}",
        hint="A plan is applied once, whether or not that succeeded. If something is left to "
        "apply, save a new plan and have it approved.",
        where=f"stages.{plan.place.stage}",
    )


def as_text(time: datetime) -> str:
    """A time as descriptions have it."""
    return time.isoformat(timespec="seconds")
