"""The outputs that a stage will have, as the plan of a merge request knows
them: what later stages see in verify mode. They are never stored.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cipipe.model import Mode, Output
from cipipe.outputs import after_apply
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.settings import references
from cipipe.stages.terraform.settings import TerraformSettings

if TYPE_CHECKING:
    from cipipe.tools.terraform.client import Terraform
    from cipipe.tools.terraform.shown import ShownPlan


def planned(shown: "ShownPlan", types: Mapping[str, Any]) -> dict[str, Output]:
    """The outputs after a saved plan was applied. `types` has those of
    values that are only known then.

    As in `terraform output`, one that is null is left out.
    """
    found = {}
    for name, output in shown.planned_values.outputs.items():
        if output.value is msgspec.UNSET:
            found[name] = Output(type=types.get(name), sensitive=output.sensitive, unknown=True)
        elif output.value is not None:
            found[name] = Output(type=output.type, value=output.value, sensitive=output.sensitive)
    return found


def keep_planned(
    context: StageContext[TerraformSettings], result: StageResult, shown: "ShownPlan", file: Path
) -> None:
    """Give later stages the outputs of a saved plan, in verify mode."""
    if context.mode is not Mode.VERIFY:
        return
    from cipipe.tools.terraform.output_types import output_types

    result.outputs = planned(shown, output_types(file))


def is_waiting(
    context: StageContext[TerraformSettings], result: StageResult, terraform: "Terraform"
) -> bool:
    """Whether variables come from outputs that are only known after apply:
    then nothing can be planned.

    Terraform has no way to plan with an unknown variable, and a made-up
    value would give a made-up plan. What the stage's own outputs will be is
    not known either.
    """
    names = sorted(
        {reference.output or "" for _, reference in references(context.stage.settings.variables)}
    )
    if not names:
        return False

    result.summary = f"depends on values known after apply: {', '.join(names)}"
    context.line("nothing was planned: variables have values that are only known after apply")
    for name in names:
        context.line(after_apply(name, context.outputs))
    result.outputs = {
        name: Output(type=found.get("type"), sensitive=bool(found.get("sensitive")), unknown=True)
        for name, found in terraform.outputs().items()
    }
    result.more_outputs = True
    return True
