"""A plan that people approve: made and kept by one job, applied by another."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cipipe.approvals import ApprovedPlan, Versions
from cipipe.errors import RefusedError
from cipipe.model import Effect
from cipipe.stages.context import StageContext, StageResult, Step
from cipipe.stages.settings import Stage
from cipipe.stages.terraform.apply.approval import refuse_incomplete, refuse_versions, versions
from cipipe.stages.terraform.saving import save_plan
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.stages.terraform.stage_client import client_of
from cipipe.stages.terraform.steps import ClientOf, TerraformRun, refuse_loss, report

if TYPE_CHECKING:
    from cipipe.stages.terraform.changes.model import ChangeSet
    from cipipe.tools.terraform.shown import ShownPlan


class PlanToSave(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that people are to approve."""

    file: Path
    changes: "ChangeSet"
    versions: Versions


def plan_to_save(
    context: StageContext[TerraformSettings], *, client_of: ClientOf = client_of
) -> PlanToSave:
    """Plan what people are to approve, and refuse what no approval may allow.

    The state is created where there is none, so that the plan cannot be
    applied over one that somebody else creates in the meantime.
    """
    from cipipe.stages.terraform.changes import reading, text

    run = TerraformRun(client_of)
    result = StageResult.after(context.previous)
    run.init(context, result)
    if context.ownership is not None and not context.ownership.check():
        context.ownership.claim()
    run.create_state(context, result)

    terraform = client_of(context)
    file = save_plan(context, terraform, lock=True)
    shown = terraform.show(file)
    changes = reading.change_set(shown, context.redactor)
    if not changes.empty:
        try:
            _refuse(context, shown, changes)
        except RefusedError:
            # Otherwise the command's answer shows them.
            for line in text.lines(changes):
                context.line(line)
            raise
    return PlanToSave(file=file, changes=changes, versions=versions(terraform))


def _refuse(
    context: StageContext[TerraformSettings], shown: "ShownPlan", changes: "ChangeSet"
) -> None:
    """Refuse a plan that no approval may allow."""
    refuse_incomplete(shown, "of this run", where=context.stage.settings.root)
    if not context.allow_replace:
        refuse_loss(shown.changes(), context.stage.settings)
    if context.reviews is not None:
        from cipipe.stages.terraform.changes import reviewing

        reviewing.check(context, changes)


def approved_steps(
    stage: Stage[TerraformSettings], approved: ApprovedPlan, *, client_of: ClientOf = client_of
) -> tuple[Step, ...]:
    """The steps that apply a saved plan, instead of those of a deployment."""
    run = TerraformRun(client_of)
    program = stage.settings.binary

    def check(context: StageContext[TerraformSettings], result: StageResult) -> None:
        terraform = client_of(context)
        refuse_versions(approved.plan, versions(terraform))
        file = context.scratch / "approved.tfplan"
        file.write_bytes(approved.body)
        shown = terraform.show(file)
        refuse_incomplete(shown, approved.plan.id, where=stage.settings.root)
        report(context, result, shown)
        if not approved.plan.allow_replace:
            refuse_loss(shown.changes(), stage.settings)
        run.take(file)

    def apply(context: StageContext[TerraformSettings], result: StageResult) -> None:
        # Before anything is applied: what was interrupted is not repeated.
        approved.use()
        run.apply(context, result)

    return (
        Step(f"{program} init in {stage.settings.root}/", Effect.READ, run.init),
        Step(f"check the saved plan {approved.plan.id}", Effect.READ, check),
        Step(f"{program} apply that plan", Effect.WRITE, apply),
        Step("store the outputs in the ledger", Effect.WRITE, run.keep_outputs),
    )
