"""Plans a root with the stage's settings, and saves the plan to a private file."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cipipe.model import Mode
from cipipe.stages.context import StageContext
from cipipe.stages.settings import literal
from cipipe.stages.terraform.settings import TerraformSettings

if TYPE_CHECKING:
    from cipipe.tools.terraform.client import Terraform


def save_plan(
    context: StageContext[TerraformSettings], terraform: "Terraform", *, lock: bool
) -> Path:
    """Plan, and return the file with the plan.

    A plan has values of the state in it, so it goes into the private folder
    of this run.
    """
    settings = context.stage.settings
    file = context.scratch / "terraform.tfplan"
    # Variables go into a file, because every user of the machine can read a
    # command line.
    variables = context.scratch / "stage.tfvars.json"
    variables.write_bytes(
        msgspec.json.encode({name: literal(v) for name, v in settings.variables.items()})
    )
    terraform.plan(
        file,
        var_files=(*settings.var_files, str(variables)),
        destroy=context.mode is Mode.DESTROY,
        lock=lock,
    )
    return file
