"""What applying a stage would change, without a lock and without applying it."""

from cipipe.errors import StageError
from cipipe.stages.context import StageContext
from cipipe.stages.terraform.changes import reading
from cipipe.stages.terraform.changes.model import ChangeSet
from cipipe.stages.terraform.saving import save_plan
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.stages.terraform.stage_client import client_of


def preview(context: StageContext[TerraformSettings]) -> ChangeSet:
    """Plan, and read the plan. Raises StageError where the workspace does not exist."""
    terraform = client_of(context)
    terraform.init()
    if not terraform.has_workspace():
        workspace = context.stage.settings.workspace
        raise StageError(
            "terraform-no-workspace",
            f"the workspace {workspace} of stage {context.stage.name} does not exist yet, and "
            "only a deployment creates it",
            hint="`cipipe run` creates it, plans, and applies. Until then there is nothing to "
            "compare with.",
            where=f"stages.{context.stage.name}.workspace",
        )
    file = save_plan(context, terraform, lock=False)
    return reading.change_set(terraform.show(file), context.redactor)
