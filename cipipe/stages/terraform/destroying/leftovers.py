"""What Terraform itself leaves behind, and what is left after it failed."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cipipe.errors import CipipeError, StageError
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.terraform.apply import applying
from cipipe.stages.terraform.destroying.going import Going
from cipipe.terminal import some

if TYPE_CHECKING:
    from pathlib import Path

    from cipipe.tools.terraform.client import Terraform

# Addresses that a message has.
_SHOWN = 10

_NOT_WRITTEN = "terraform-state-not-written"


def deregister(context: StageContext[Any], going: Iterable[Going]) -> None:
    """Deregister task definitions that `skip_destroy` would leave behind.

    This comes before the state is destroyed, because only the state has
    their families.
    """
    families = {
        one.text("family")
        for one in going
        if one.type == "aws_ecs_task_definition" and one.attributes.get("skip_destroy")
    }
    for family in sorted(families):
        pages = context.aws.pages(
            "ecs", "list_task_definitions", familyPrefix=family, status="ACTIVE"
        )
        for arn in [arn for page in pages for arn in page["taskDefinitionArns"]]:
            # AWS matches a prefix: `etl` finds `etl-daily` too.
            if arn.rpartition("/")[2].rpartition(":")[0] == family:
                context.aws.call("ecs", "deregister_task_definition", taskDefinition=arn)
                context.line(f"deregistered {arn}")


def apply(
    terraform: "Terraform", plan: "Path", context: StageContext[Any], result: StageResult
) -> None:
    """Apply the saved plan. An error names what is left in the state, by address."""
    try:
        applying.apply(terraform, plan, context, result)
    except StageError as error:
        if error.id == _NOT_WRITTEN:
            # The state that is stored does not know what was destroyed.
            raise
        left = _left(terraform)
        if left:
            result.findings.setdefault("destroy", {})["left"] = left
            error.message += f"\nleft ({len(left)}): {some(left, _SHOWN)}"
        raise


def _left(terraform: "Terraform") -> list[str]:
    try:
        return [resource.address for resource in terraform.managed()]
    except CipipeError:
        # The error that is raised anyway matters more.
        return []
