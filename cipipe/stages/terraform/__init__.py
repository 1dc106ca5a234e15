"""The `terraform` kind: plan to a file, check that plan, apply exactly it,
and write its outputs into the ledger.
"""

from collections.abc import Iterator, Mapping

from cipipe.model import Record
from cipipe.results import DriftFinding
from cipipe.stages.base import RequiredPath, consumes_nothing, owns_nothing
from cipipe.stages.context import StageContext
from cipipe.stages.paths import repository_path
from cipipe.stages.settings import Stage
from cipipe.stages.terraform.approving import approved_steps, plan_to_save
from cipipe.stages.terraform.files.inputs import inputs
from cipipe.stages.terraform.settings import PROTECTED_TYPES, TerraformSettings, problems
from cipipe.stages.terraform.stage_client import client_of, root_of
from cipipe.stages.terraform.state import backend_of, resources
from cipipe.stages.terraform.steps import outputs_of, steps

__all__ = [
    "GIVES_OUTPUTS",
    "HAS_DRIFT",
    "NAME",
    "PATHS",
    "PROTECTED_TYPES",
    "Settings",
    "approved_steps",
    "backend_of",
    "client_of",
    "consumes",
    "drift",
    "inputs",
    "outputs_of",
    "owns",
    "plan_to_save",
    "problems",
    "required_paths",
    "resources",
    "root_of",
    "steps",
    "tools",
]

Settings = TerraformSettings

NAME = "terraform"

PATHS = ("root",)
GIVES_OUTPUTS = True
HAS_DRIFT = True

consumes = consumes_nothing
owns = owns_nothing


def tools(stage: Stage[TerraformSettings]) -> tuple[str, ...]:
    return (stage.settings.binary,)


def required_paths(stage: Stage[TerraformSettings]) -> Iterator[RequiredPath]:
    settings = stage.settings
    root = repository_path(settings.root)
    # On disk, because Terraform reads them there.
    yield RequiredPath(key="root", path=root, folder=True, on_disk=True)
    for number, file in enumerate(settings.var_files):
        yield RequiredPath(
            key=f"var_files[{number}]", path=repository_path(root, file), on_disk=True
        )


def drift(
    context: StageContext[TerraformSettings],
    records: Mapping[str, Record],
) -> Iterator[DriftFinding]:
    """What a plan of the deployed configuration says of the resources."""
    from cipipe.stages.terraform.drifted import findings

    return findings(context)
