"""The resources that a destroy deletes, whether a plan or the state names them."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from cipipe.tools.terraform.shown import ResourceChange, StateResource

BUCKET = "aws_s3_bucket"
REPOSITORY = "aws_ecr_repository"


class Going(msgspec.Struct, frozen=True, kw_only=True):
    """One resource that is deleted."""

    address: str
    type: str
    # Secrets are in there in the clear.
    attributes: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Going({self.address})"

    def text(self, name: str) -> str:
        """An attribute as text; empty where it is null or missing."""
        value = self.attributes.get(name)
        return "" if value is None else str(value)

    def number(self, name: str, default: int) -> int:
        value = self.attributes.get(name)
        return int(value) if isinstance(value, (int, float)) else default


def of_changes(changes: "Iterable[ResourceChange]") -> tuple[Going, ...]:
    """What a plan deletes."""
    return tuple(
        Going(address=change.address, type=change.type, attributes=change.before)
        for change in changes
        if change.destroys
    )


def of_state(resources: "Iterable[StateResource]") -> tuple[Going, ...]:
    """Everything that Terraform manages: without a plan, that is what a destroy deletes."""
    return tuple(
        Going(address=found.address, type=found.type, attributes=found.values)
        for found in resources
    )
