"""`cipipe iac plan --save`: keep a plan until people have approved it."""

import hashlib
from typing import TYPE_CHECKING

import msgspec

from cipipe.approvals import VALID_HOURS, SavedPlan, new_id, times
from cipipe.model import SCHEMA, Mode, Status
from cipipe.pipeline.alone import Alone, Opening, in_stage, opened, run_options
from cipipe.pipeline.approval.situation import saved_plans, situation
from cipipe.pipeline.checks.refusals import refuse_ref
from cipipe.pipeline.session import Session
from cipipe.stages import terraform as kind

if TYPE_CHECKING:
    from cipipe.stages.terraform.approving import PlanToSave
    from cipipe.stages.terraform.changes.model import ChangeSet


class Saving(msgspec.Struct, frozen=True, kw_only=True):
    """How the command line wants a plan to be saved."""

    # How long it may be applied.
    hours: int = VALID_HOURS
    # Save nothing for a stage that a run would leave alone.
    if_due: bool = False
    allow_replace: bool = False
    allow_rollback: bool = False


class SavedChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage would change, and the plan that was saved of that."""

    stage: str
    environment: str
    commit: str
    # None where the stage is not due.
    changes: "ChangeSet | None" = None
    # None where there is nothing to apply.
    plan: SavedPlan | None = None


def save(session: Session, stage: str, how: Saving) -> SavedChanges:
    """Plan a stage as a run would, and save that.

    Raises what a run raises before its first change.
    """
    options = run_options(session, stage, allow_rollback=how.allow_rollback)
    if how.if_due:
        planning = msgspec.structs.replace(options.planning, forced=frozenset())
        options = msgspec.structs.replace(options, planning=planning)
    refuse_ref(session, options.planning.mode)
    with opened(session, stage, Opening(refusing=options)) as alone, in_stage():
        made = SavedChanges(
            stage=stage,
            environment=session.environment_name,
            commit=alone.contexts.result.snapshot.commit,
        )
        if alone.stage.status is Status.UNCHANGED:
            return made
        context = msgspec.structs.replace(alone.context(), allow_replace=how.allow_replace)
        found = kind.plan_to_save(context)
        made = msgspec.structs.replace(made, changes=found.changes)
        if found.changes.empty:
            return made
        return msgspec.structs.replace(made, plan=_save(alone, found, how))


def _save(alone: Alone, found: "PlanToSave", how: Saving) -> SavedPlan:
    here = situation(alone)
    context = alone.contexts.session.project.context
    body = found.file.read_bytes()
    created, expires = times(here.now, hours=how.hours)
    plan = SavedPlan(
        schema=SCHEMA,
        id=new_id(here.place.environment, here.place.stage, here.now),
        place=here.place,
        content=here.content,
        versions=found.versions,
        mode=Mode.DEPLOY,
        sha256=hashlib.sha256(body).hexdigest(),
        counts=found.changes.counts(),
        allow_replace=how.allow_replace,
        created_at=created,
        expires_at=expires,
        provider=context.provider,
        pipeline_url=context.pipeline_url,
        actor=context.actor,
    )
    saved_plans(alone.ledger, here.place).save(plan, body)
    return plan
