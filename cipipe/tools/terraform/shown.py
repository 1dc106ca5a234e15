"""What `terraform show -json` prints about a plan or a state, as far as
cipipe needs it.

Secrets are in there in the clear. A document of another shape is refused as
a whole, so that no error can quote it.
https://developer.hashicorp.com/terraform/internals/json-format
"""

from collections.abc import Iterator
from typing import Any

import msgspec

Path = tuple[str | int, ...]
"""The keys that lead to a value inside of an attribute."""


class StateResource(msgspec.Struct, frozen=True):
    """A resource in a state."""

    type: str
    # `managed`, or `data` for a data source.
    mode: str = ""
    values: dict[str, Any] = {}
    # In the shape of the values, with `true` where one is sensitive.
    sensitive_values: Any = False
    address: str = ""


class RootModule(msgspec.Struct, frozen=True):
    """A module, the root or one below it."""

    resources: tuple[StateResource, ...] = ()
    child_modules: tuple["RootModule", ...] = ()

    def all_resources(self) -> Iterator[StateResource]:
        """Its own resources, and those of the modules below."""
        yield from self.resources
        for child in self.child_modules:
            yield from child.all_resources()


class PlannedOutput(msgspec.Struct, frozen=True):
    """An output of a state. A value that a plan does not know yet is missing."""

    sensitive: bool = False
    # As Terraform writes types: a word, or a list.
    type: Any = None
    value: Any = msgspec.UNSET


class StateValues(msgspec.Struct, frozen=True):
    """A state, real or planned."""

    outputs: dict[str, PlannedOutput] = {}
    root_module: RootModule = RootModule()


class Importing(msgspec.Struct, frozen=True):
    """Where an imported resource comes from. Terraform may not know the id yet."""

    id: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan does to a resource or an output.

    `before_sensitive`, `after_sensitive` and `after_unknown` have the shape
    of the value, with `true` where it is sensitive or not known yet.
    """

    # `create`, `update`, `delete`, `no-op`, `read`, `forget`; a replacement
    # has two, in the order in which they happen.
    actions: tuple[str, ...]
    # Null where there is nothing before, or after.
    before: Any = None
    after: Any = None
    after_unknown: Any = False
    before_sensitive: Any = False
    after_sensitive: Any = False
    # The attributes that force a replacement.
    replace_paths: tuple[Path, ...] = ()
    importing: Importing | None = None


class AttributesChange(Change, frozen=True, kw_only=True):
    """That of a resource, whose values are its attributes."""

    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class ResourceChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan does to one resource, or what happened to it outside of Terraform."""

    address: str
    type: str
    change: AttributesChange
    # `managed`, or `data` for a data source.
    mode: str = ""
    # Why, such as `replace_because_tainted`.
    action_reason: str | None = None
    # Where it was, if a `moved` block moves it.
    previous_address: str | None = None
    # The key of an object that a failed replacement left behind.
    deposed: str | None = None

    @property
    def actions(self) -> tuple[str, ...]:
        return self.change.actions

    @property
    def before(self) -> dict[str, Any]:
        """Its attributes before; empty for a new resource."""
        return self.change.before or {}

    @property
    def destroys(self) -> bool:
        return "delete" in self.actions

    @property
    def tainted(self) -> bool:
        """Whether it is replaced because it was never completely created, or
        because of `terraform taint`.
        """
        return self.action_reason == "replace_because_tainted"

    @property
    def changes_anything(self) -> bool:
        """Whether the plan does anything to it, be it in the state only.
        Data sources are only read.
        """
        moved = self.previous_address not in {None, self.address}
        imported = self.change.importing is not None
        return self.mode == "managed" and (self.actions != ("no-op",) or moved or imported)


class DeclaredVariable(msgspec.Struct, frozen=True):
    sensitive: bool = False


class DeclaredModule(msgspec.Struct, frozen=True):
    variables: dict[str, DeclaredVariable] = {}


class Configuration(msgspec.Struct, frozen=True):
    root_module: DeclaredModule = DeclaredModule()


class PlannedVariable(msgspec.Struct, frozen=True):
    value: Any = None


class ShownState(msgspec.Struct, frozen=True):
    """A state."""

    # None where the state is empty.
    values: StateValues | None = None

    def resources(self) -> tuple[StateResource, ...]:
        """The resources of the root module."""
        return self.values.root_module.resources if self.values is not None else ()

    def all_resources(self) -> Iterator[StateResource]:
        """Those of all modules, data sources included."""
        if self.values is not None:
            yield from self.values.root_module.all_resources()

    def managed(self) -> tuple[StateResource, ...]:
        """What Terraform manages, in all modules."""
        return tuple(found for found in self.all_resources() if found.mode == "managed")


class ShownPlan(msgspec.Struct, frozen=True):
    """A plan."""

    resource_changes: tuple[ResourceChange, ...] = ()
    # What changed outside of Terraform since the last apply.
    resource_drift: tuple[ResourceChange, ...] = ()
    output_changes: dict[str, Change] = {}
    planned_values: StateValues = StateValues()
    # What was refreshed and read while it was made.
    prior_state: ShownState = ShownState()
    variables: dict[str, PlannedVariable] = {}
    configuration: Configuration = Configuration()
    terraform_version: str = ""
    # Planning failed in between: what is planned is not everything.
    errored: bool = False
    # Nothing was left out, as `-target` does or what has to be deferred.
    # Terraform says so since 1.8.
    complete: bool = True
    # There is something to apply.
    applyable: bool = True

    def changes(self) -> tuple[ResourceChange, ...]:
        """What the plan does to resources."""
        return tuple(entry for entry in self.resource_changes if entry.changes_anything)

    def sensitive_variables(self) -> Iterator[Any]:
        """The values of the variables that are declared as sensitive."""
        for name, declared in self.configuration.root_module.variables.items():
            if declared.sensitive and name in self.variables:
                yield self.variables[name].value
