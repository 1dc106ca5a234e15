"""What `terraform show -json` prints about a plan or a state, as far as
cipipe needs it.

Secrets are in there in the clear. A document of another shape is refused as
a whole, so that no error can quote it.
https://developer.hashicorp.com/terraform/internals/json-format
"""

from typing import Any

import msgspec


class ResourceChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan does to one resource."""

    address: str
    type: str
    # `create`, `update`, `delete`, …; a replacement has two.
    actions: tuple[str, ...]
    # Its attributes before; empty for a new resource.
    before: dict[str, Any] = {}
    # Replaced because it was never completely created, or because of
    # `terraform taint`.
    tainted: bool = False

    @property
    def destroys(self) -> bool:
        return "delete" in self.actions


class StateResource(msgspec.Struct, frozen=True):
    """A resource in a state."""

    type: str
    # `managed`, or `data` for a data source.
    mode: str = ""
    values: dict[str, Any] = {}


class RootModule(msgspec.Struct, frozen=True):
    resources: tuple[StateResource, ...] = ()


class StateValues(msgspec.Struct, frozen=True):
    """A state, real or planned."""

    outputs: dict[str, Any] = {}
    root_module: RootModule = RootModule()


class Actions(msgspec.Struct, frozen=True):
    actions: tuple[str, ...]
    # Null where the resource is new.
    before: dict[str, Any] | None = None


class ShownChange(msgspec.Struct, frozen=True):
    """An entry of `resource_changes`."""

    address: str
    type: str
    change: Actions
    mode: str = ""
    action_reason: str | None = None


class ShownPlan(msgspec.Struct, frozen=True):
    """A plan."""

    resource_changes: tuple[ShownChange, ...] = ()
    planned_values: StateValues = StateValues()

    def changes(self) -> tuple[ResourceChange, ...]:
        """What the plan does to resources. Data sources are only read."""
        return tuple(
            ResourceChange(
                address=entry.address,
                type=entry.type,
                actions=entry.change.actions,
                before=entry.change.before or {},
                tainted=entry.action_reason == "replace_because_tainted",
            )
            for entry in self.resource_changes
            if entry.mode == "managed" and entry.change.actions != ("no-op",)
        )


class ShownState(msgspec.Struct, frozen=True):
    """A state."""

    # None where the state is empty.
    values: StateValues | None = None

    def resources(self) -> tuple[StateResource, ...]:
        """The resources of the root module."""
        return self.values.root_module.resources if self.values is not None else ()
