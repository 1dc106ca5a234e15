"""What `terraform show -json` prints of a plan or a state, as far as cipipe looks at it.

developer.hashicorp.com/terraform/internals/json-format. What has another shape is refused before
anybody looks into it, so that no error can quote it: secrets stand in it as they are.
"""

from typing import Any

import msgspec


class Change(msgspec.Struct, frozen=True):
    """One resource in a plan: its address, its type, the actions (`create`, `update`, `delete`, …),
    and what it was.

    `tainted` ones are replaced because they were never wholly created, or because somebody said
    `terraform taint`.
    """

    address: str
    type: str
    actions: tuple[str, ...]
    before: dict[str, Any] = {}
    tainted: bool = False

    @property
    def destroys(self) -> bool:
        return "delete" in self.actions


class Resource(msgspec.Struct, frozen=True):
    """A resource in a state."""

    type: str
    mode: str = ""
    values: dict[str, Any] = {}


class Module(msgspec.Struct, frozen=True):
    resources: tuple[Resource, ...] = ()


class Values(msgspec.Struct, frozen=True):
    """A state, there or planned."""

    outputs: dict[str, Any] = {}
    root_module: Module = Module()


class Actions(msgspec.Struct, frozen=True):
    """`before` is null where the resource is new."""

    actions: tuple[str, ...]
    before: dict[str, Any] | None = None


class ResourceChange(msgspec.Struct, frozen=True):
    address: str
    type: str
    change: Actions
    mode: str = ""
    action_reason: str | None = None


class Shown(msgspec.Struct, frozen=True):
    """A plan has `resource_changes` and `planned_values`; a state has `values`, unless it is empty."""

    resource_changes: tuple[ResourceChange, ...] = ()
    planned_values: Values = Values()
    values: Values | None = None

    def changes(self) -> tuple[Change, ...]:
        """What a plan would do to resources; data sources are only read."""
        return tuple(
            Change(
                entry.address,
                entry.type,
                entry.change.actions,
                entry.change.before or {},
                entry.action_reason == "replace_because_tainted",
            )
            for entry in self.resource_changes
            if entry.mode == "managed" and entry.change.actions != ("no-op",)
        )
