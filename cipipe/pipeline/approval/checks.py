"""Whether a saved plan may be applied here and now. Pure; nothing has
started yet.
"""

from datetime import UTC, datetime

import msgspec

from cipipe.approvals import Content, Place, SavedPlan, environment_of, refused_used
from cipipe.errors import RefusedError
from cipipe.model import Mode

_AGAIN = "Nothing was applied. Save a new plan, and have it approved."

# How a message names what differs.
_FIELDS = {
    "project": "project",
    "environment": "environment",
    "stage": "stage",
    "account_id": "account",
    "region": "region",
    "backend": "backend",
    "workspace": "workspace",
}


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan that is made here and now would be for."""

    place: Place
    content: Content
    now: datetime


def refuse_environment(id: str, environment: str) -> None:
    """Refuse the ID of a plan that was made for another environment."""
    made_for = environment_of(id)
    if made_for != environment:
        raise RefusedError(
            "saved-plan-other-place",
            f"the saved plan {id} was made for environment {made_for}, and this is {environment}",
            hint="Nothing was applied. Pass the ID of a plan that was saved for "
            f"{environment}: cipipe iac plan --save --env {environment}",
            where="--plan",
        )


def refuse(plan: SavedPlan, here: Situation) -> None:
    """Raise RefusedError where the plan was used, expired, or made for
    something else than what would be applied.
    """
    if plan.used_at is not None:
        raise refused_used(plan)
    _refuse_place(plan, here.place)
    _refuse_mode(plan)
    _refuse_content(plan, here.content)
    _refuse_expired(plan, here.now)


def _refuse_place(plan: SavedPlan, here: Place) -> None:
    then = msgspec.structs.asdict(plan.place)
    now = msgspec.structs.asdict(here)
    different = [
        f"{shown} {then[name]}, and this is {now[name]}"
        for name, shown in _FIELDS.items()
        if then[name] != now[name]
    ]
    if different:
        raise RefusedError(
            "saved-plan-other-place",
            f"the saved plan {plan.id} was made for " + "; ".join(different),
            hint=_AGAIN,
            where=f"stages.{plan.place.stage}",
        )


def _refuse_mode(plan: SavedPlan) -> None:
    if plan.mode is not Mode.DEPLOY:
        raise RefusedError(
            "saved-plan-other-mode",
            f"the saved plan {plan.id} was made to {plan.mode}, and this command deploys",
            hint="`cipipe destroy` makes its own plan. " + _AGAIN,
            where=f"stages.{plan.place.stage}",
        )


def _refuse_content(plan: SavedPlan, here: Content) -> None:
    then = plan.content
    if then.commit != here.commit:
        raise RefusedError(
            "saved-plan-other-commit",
            f"the saved plan {plan.id} was made from commit {then.commit[:12]}, and "
            f"{here.commit[:12]} is checked out",
            hint="Apply it from a job of the same pipeline, or save a plan of this commit and "
            "have it approved.",
            where=f"stages.{plan.place.stage}",
        )
    # The ledger first: a deployment in between changes outputs, too.
    if then.record != here.record:
        raise RefusedError(
            "saved-plan-outdated",
            f"stage {plan.place.stage} was deployed, or tried to be, after the plan {plan.id} was "
            "saved",
            hint=_AGAIN,
            where=f"stages.{plan.place.stage}",
        )
    if (then.fingerprint, then.effective) != (here.fingerprint, here.effective):
        raise RefusedError(
            "saved-plan-other-inputs",
            f"the settings, variables or inputs of stage {plan.place.stage} are not those that the "
            f"plan {plan.id} was made from",
            hint="Variables of the job that `{ env = … }` names count, too. " + _AGAIN,
            where=f"stages.{plan.place.stage}",
        )


def _refuse_expired(plan: SavedPlan, now: datetime) -> None:
    if now >= datetime.fromisoformat(plan.expires_at).astimezone(UTC):
        raise RefusedError(
            "saved-plan-expired",
            f"the saved plan {plan.id} expired at {plan.expires_at}",
            hint="Run the job that saves the plan again; --valid-hours makes it valid longer.",
            where=f"stages.{plan.place.stage}",
        )
