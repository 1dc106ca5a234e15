"""Changes that people approve: what a run refuses without that, and what is
checked of a saved plan before it is applied.
"""

from typing import TYPE_CHECKING

from cipipe import __version__
from cipipe.approvals import SavedPlan, Versions
from cipipe.errors import RefusedError
from cipipe.stages.context import StageContext
from cipipe.stages.terraform.saving import save_plan
from cipipe.stages.terraform.settings import TerraformSettings

if TYPE_CHECKING:
    from cipipe.stages.terraform.changes.model import ChangeSet
    from cipipe.tools.terraform.client import Terraform
    from cipipe.tools.terraform.shown import ShownPlan

_AGAIN = "Nothing was applied. Save a new plan, and have it approved."

_NAMES = {"cipipe": "cipipe", "terraform": "Terraform", "providers": "the dependency lock file"}


def versions(terraform: "Terraform") -> Versions:
    """What plans in this root are made with. The root is initialised."""
    from cipipe.tools.terraform.commands import version

    commands = terraform.commands
    return Versions(
        cipipe=__version__,
        terraform=version(commands.environment(), commands.program),
        providers=commands.lock_file.digest(),
    )


def refuse_planned(context: StageContext[TerraformSettings], changes: "ChangeSet") -> None:
    """Raise RefusedError if a plan that is about to be applied changes anything."""
    from cipipe.stages.terraform.changes import text

    if not changes.empty:
        raise _needs_approval(context, text.summary(changes))


def refuse_changes(context: StageContext[TerraformSettings], terraform: "Terraform") -> None:
    """Raise RefusedError if there is something to apply that nobody approved."""
    if not terraform.has_workspace():
        raise _needs_approval(context, "everything is new")
    from cipipe.stages.terraform.changes import reading, text

    file = save_plan(context, terraform, lock=True)
    changes = reading.change_set(terraform.show(file), context.redactor)
    if not changes.empty:
        for line in text.lines(changes):
            context.line(line)
    refuse_planned(context, changes)


def _needs_approval(context: StageContext[TerraformSettings], what: str) -> RefusedError:
    """The error of a run that would change something; `what` says how much."""
    name = context.environment_name
    return RefusedError(
        "approval-required",
        f"changes of {name} have to be approved, and nobody approved these: {what}",
        hint="Save the plan, have it approved, and apply it: "
        f"cipipe iac plan --save {context.again}, then cipipe iac apply {context.again} --plan ID. "
        "Nothing was changed.",
        where=f"environments.{name}.approval",
    )


def refuse_versions(plan: SavedPlan, now: Versions) -> None:
    """Refuse a plan that was made with something else than what would apply it."""
    for field, name in _NAMES.items():
        then_value, now_value = getattr(plan.versions, field), getattr(now, field)
        if then_value != now_value:
            raise RefusedError(
                "saved-plan-other-versions",
                f"the saved plan {plan.id} was made with another version of {name}: "
                f"{then_value or 'none'}, and this job has {now_value or 'none'}",
                hint="Use the same image in both jobs, and commit .terraform.lock.hcl. " + _AGAIN,
                where=f"stages.{plan.place.stage}",
            )


def refuse_incomplete(shown: "ShownPlan", what: str, *, where: str) -> None:
    """Refuse a plan that would not do everything that the configuration says."""
    problem = None
    if shown.errored:
        problem = "planning failed in between"
    elif not shown.complete:
        problem = "it leaves out something, as -target does"
    elif not shown.applyable:
        problem = "there is nothing in it to apply"
    if problem is not None:
        raise RefusedError(
            "saved-plan-incomplete",
            f"the plan {what} is not complete: {problem}",
            hint=_AGAIN,
            where=where,
        )
