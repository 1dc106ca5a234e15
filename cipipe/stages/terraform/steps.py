"""The steps of a `terraform` stage: init, plan to a file, check that plan,
apply exactly it, and write its outputs into the ledger.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from cipipe.errors import RefusedError
from cipipe.model import Effect, Mode, Output
from cipipe.stages import sandbox_bucket
from cipipe.stages.context import StageContext, StageResult, Step
from cipipe.stages.settings import Stage
from cipipe.stages.terraform.apply import applying, recovery
from cipipe.stages.terraform.planned_outputs import is_waiting, keep_planned
from cipipe.stages.terraform.saving import save_plan
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.stages.terraform.stage_client import client_of
from cipipe.stages.terraform.state import backend_of
from cipipe.tools.terraform.errors import PreventedDestroy

if TYPE_CHECKING:
    from cipipe.stages.terraform.changes.model import ChangeSet
    from cipipe.stages.terraform.destroying.going import Going
    from cipipe.tools.terraform.client import Terraform
    from cipipe.tools.terraform.shown import ResourceChange, ShownPlan

ClientOf: TypeAlias = "Callable[[StageContext[TerraformSettings]], Terraform]"

_LOADED = (".tf", ".tf.json", ".tofu", ".tofu.json", ".tfvars", ".tfvars.json")
_MAX_SHOWN = 10


class TerraformData(msgspec.Struct, frozen=True):
    """`data` in the record of a `terraform` stage."""

    # The names of the outputs. Their values are in an object of their own.
    outputs: list[str]


def steps(
    stage: Stage[TerraformSettings],
    mode: Mode,
    *,
    tag: str,
    client_of: ClientOf = client_of,
) -> tuple[Step, ...]:
    run = TerraformRun(client_of, approval=stage.approval)
    root = stage.settings.root
    program = stage.settings.binary
    init = Step(f"{program} init in {root}/", Effect.READ, run.init)
    if mode is Mode.VERIFY:
        plan = Step(
            f"{program} plan in {root}/ (no lock, nothing is applied)", Effect.READ, run.plan
        )
        if not stage.reviewed:
            return (init, plan)
        keep = Step("record these changes as reviewed", Effect.REVIEW, run.keep_review)
        return (init, plan, keep)
    if mode is Mode.DESTROY:
        return (
            init,
            Step(f"{program} plan -destroy in {root}/", Effect.READ, run.plan),
            Step("list what is lost, and what blocks it", Effect.READ, run.preflight),
            Step(
                "with --empty: empty the buckets and repositories of the state",
                Effect.DESTROY,
                run.empty,
            ),
            Step(
                "deregister the task definitions that terraform would leave",
                Effect.DESTROY,
                run.deregister,
            ),
            Step(
                f"{program} apply that plan: destroy everything in the state",
                Effect.DESTROY,
                run.destroy,
            ),
        )
    approval = Step(
        f"refuse changes in {root}/ that nobody approved", Effect.READ, run.refuse_unapproved
    )
    return (
        init,
        *([approval] if stage.approval else []),
        Step("create an empty Terraform state if there is none", Effect.WRITE, run.create_state),
        Step(f"{program} plan in {root}/", Effect.READ, run.plan),
        Step(f"{program} apply that plan", Effect.WRITE, run.apply),
        Step("store the outputs in the ledger", Effect.WRITE, run.keep_outputs),
    )


def _ensure_bucket(context: StageContext[TerraformSettings]) -> None:
    backend = backend_of(context.stage.settings, context.environment, sandbox=context.sandbox)
    bucket = backend.settings.get("bucket")
    if backend.type == "s3" and isinstance(bucket, str) and not context.dry_run:
        sandbox_bucket.ensure(context, bucket, str(backend.settings["region"]))


class TerraformRun:
    """What the steps of one run share: the saved plan, and what it changes."""

    def __init__(self, client_of: ClientOf, *, approval: bool = False) -> None:
        self._client_of = client_of
        # People approve changes: only plans without any are applied.
        self._approval = approval
        self._changes: tuple[ResourceChange, ...] = ()
        # None where nothing was planned.
        self._plan: Path | None = None
        self._change_set: ChangeSet | None = None
        # Why a destroy could not be planned.
        self._prevented: PreventedDestroy | None = None

    def init(self, context: StageContext[TerraformSettings], _: StageResult) -> None:
        _refuse_ignored(context)
        _ensure_bucket(context)
        terraform = self._client_of(context)
        terraform.init()
        if context.mode is not Mode.VERIFY:
            recovery.refuse_unwritten(context, terraform)

    def create_state(self, context: StageContext[TerraformSettings], _: StageResult) -> None:
        self._client_of(context).create_state()

    def plan(self, context: StageContext[TerraformSettings], result: StageResult) -> None:
        settings = context.stage.settings
        terraform = self._client_of(context)
        if context.mode is not Mode.DEPLOY and not terraform.has_workspace():
            # Planning would create it, and this mode writes no state.
            result.summary = f"workspace {settings.workspace} does not exist yet"
            context.line(f"{result.summary}: nothing to compare with, so nothing was planned")
            return
        if is_waiting(context, result, terraform):
            if context.reviews is not None:
                from cipipe.stages.terraform.changes import reviewing

                reviewing.warn_unplanned(context)
            return

        try:
            self._plan = save_plan(
                context,
                terraform,
                lock=context.mode is not Mode.VERIFY and not context.dry_run,
            )
        except PreventedDestroy as error:
            if context.mode is not Mode.DESTROY:
                raise
            # There may be more that blocks it: all of it is reported at once.
            self._prevented = error
            return

        shown = terraform.show(self._plan)
        self._changes = shown.changes()
        self._change_set = report(context, result, shown)
        keep_planned(context, result, shown, self._plan)
        if context.mode is not Mode.DESTROY and not context.allow_replace:
            refuse_loss(self._changes, settings)
        if context.mode is Mode.DEPLOY and context.reviews is not None:
            from cipipe.stages.terraform.changes import reviewing

            reviewing.check(context, self._change_set)
        if context.mode is Mode.DEPLOY and self._approval and not context.approval_waived:
            from cipipe.stages.terraform.apply import approval

            # Something may have changed since the step that refuses changes.
            approval.refuse_planned(context, self._change_set)

    def refuse_unapproved(self, context: StageContext[TerraformSettings], _: StageResult) -> None:
        """Raise RefusedError if there is something to apply, before anything is written."""
        from cipipe.stages.terraform.apply import approval

        if not context.approval_waived:
            approval.refuse_changes(context, self._client_of(context))

    def take(self, plan: Path) -> None:
        """Apply this plan later, instead of making one."""
        self._plan = plan

    def keep_review(self, context: StageContext[TerraformSettings], _: StageResult) -> None:
        from cipipe.stages.terraform.changes import reviewing

        if self._change_set is not None:
            reviewing.store(context, self._change_set)

    def apply(self, context: StageContext[TerraformSettings], result: StageResult) -> None:
        if self._plan is None:
            return  # nothing was planned
        # Without resource changes too: changed outputs alone are none.
        applying.apply(self._client_of(context), self._plan, context, result)

    def preflight(self, context: StageContext[TerraformSettings], result: StageResult) -> None:
        from cipipe.stages.terraform.destroying import preflight

        prevented = self._prevented.problems if self._prevented else ()
        preflight.look(context, result.preflight, self._going(context), prevented)

    def empty(self, context: StageContext[TerraformSettings], result: StageResult) -> None:
        if context.empty:
            from cipipe.stages.terraform.destroying import emptying

            emptying.empty(context, result, self._going(context))

    def deregister(self, context: StageContext[TerraformSettings], _: StageResult) -> None:
        from cipipe.stages.terraform.destroying import leftovers

        leftovers.deregister(context, self._going(context))

    def destroy(self, context: StageContext[TerraformSettings], result: StageResult) -> None:
        if self._plan is None:
            return  # there is no workspace, so nothing to destroy
        from cipipe.stages.terraform.destroying import leftovers

        leftovers.apply(self._client_of(context), self._plan, context, result)

    def _going(self, context: StageContext[TerraformSettings]) -> "tuple[Going, ...]":
        """What the destroy deletes: without a plan, everything that the state has."""
        from cipipe.stages.terraform.destroying import going

        if self._prevented is not None:
            return going.of_state(self._client_of(context).managed())
        return going.of_changes(self._changes)

    def keep_outputs(self, context: StageContext[TerraformSettings], result: StageResult) -> None:
        result.outputs = outputs_of(self._client_of(context))
        result.keep(TerraformData(outputs=sorted(result.outputs)))


def outputs_of(terraform: "Terraform") -> dict[str, Output]:
    """The outputs in the state, sensitive values included."""
    return {
        name: Output(
            type=output.get("type"),
            value=output.get("value"),
            sensitive=bool(output.get("sensitive")),
        )
        for name, output in terraform.outputs().items()
    }


def report(
    context: StageContext[TerraformSettings], result: StageResult, shown: "ShownPlan"
) -> "ChangeSet":
    """Show what a plan does, and keep it for the report."""
    # Most plans have no due Terraform stage.
    from cipipe.stages.terraform.changes import reading, text

    changes = reading.change_set(shown, context.redactor)
    for line in text.lines(changes):
        context.line(line)
    result.findings["changes"] = changes.public()
    result.summary = text.summary(changes, done=context.mode is not Mode.VERIFY)
    return changes


def _refuse_ignored(context: StageContext[TerraformSettings]) -> None:
    """Refuse files that Terraform would load and git ignores: no fingerprint has them."""
    root = context.stage.settings.root
    found = [path.decode(errors="backslashreplace") for path in context.repository.ignored(root)]
    loaded = [path for path in found if path.endswith(_LOADED) and "/.terraform/" not in path]
    if loaded:
        raise RefusedError(
            "terraform-ignored-files",
            "Terraform would load files that are not in the commit: "
            + ", ".join(loaded[:_MAX_SHOWN]),
            hint="Commit them, or move them elsewhere. "
            "Values of one environment belong into its var file.",
            where=root,
        )


def refuse_loss(changes: "Iterable[ResourceChange]", settings: TerraformSettings) -> None:
    """Refuse a plan that deletes or replaces what holds data."""
    # A tainted resource is one whose creation failed: it holds nothing, and
    # is replaced so that running again can finish.
    lost = [
        change
        for change in changes
        if change.destroys and not change.tainted and change.type in settings.protected_types
    ]
    if lost:
        names = "\n".join(f"  {change.address}: {' and '.join(change.actions)}" for change in lost)
        raise RefusedError(
            "terraform-protected-resource",
            f"the plan deletes or replaces resources that hold data:\n{names}",
            hint="If that is meant, run again with --allow-replace. Nothing was applied.",
            where=settings.root,
        )
