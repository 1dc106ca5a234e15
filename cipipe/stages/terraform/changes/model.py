"""The change set of a plan: what it does, resource by resource, without any sensitive value.

It is safe to print, to store and to send: sensitive values are left out
where it is made (`reading.py`), and nothing later can get at them.
"""

import enum
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec


class Action(enum.StrEnum):
    """What happens to one resource."""

    CREATE = "create"
    UPDATE = "update"
    # Deleted, then created anew; or created anew before the old one is deleted.
    REPLACE = "replace"
    REPLACE_CREATE_FIRST = "replace-create-first"
    DELETE = "delete"
    # No longer managed, and not deleted.
    FORGET = "forget"
    # Only its address changes, or only the state learns of it.
    MOVE = "move"
    IMPORT = "import"

    @property
    def replaces(self) -> bool:
        return self in {Action.REPLACE, Action.REPLACE_CREATE_FIRST}

    @property
    def destroys(self) -> bool:
        """Whether an existing resource is gone afterwards."""
        return self.replaces or self is Action.DELETE


class Hidden(msgspec.Struct, frozen=True, tag_field="is", tag="sensitive"):
    """A sensitive value."""


class Unknown(msgspec.Struct, frozen=True, tag_field="is", tag="unknown"):
    """A value that is known only after the plan was applied."""

    # As far as it is known: `string`, `number`, `bool`, `list`, `object`.
    type: str | None = None


class Plain(msgspec.Struct, frozen=True, tag_field="is", tag="value"):
    """A value, without anything sensitive in it. Null stands for an attribute that is not set."""

    value: Any = None


Value = Plain | Hidden | Unknown


class AttributeChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A value inside of a resource that changes."""

    # Such as `tags.Name` or `ingress[0].from_port`.
    path: str
    before: Value
    after: Value
    forces_replacement: bool = False


class ResourceEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happens to one resource."""

    address: str
    type: str
    action: Action
    # Terraform's own word for why, such as `delete_because_no_resource_config`.
    reason: str | None = None
    moved_from: str | None = None
    # The id of the object that is imported. Empty where it is not known yet.
    imported_id: str | None = None
    # An object that a failed replacement left behind.
    deposed: str | None = None
    # What changes. Of a new resource all values, of one that is deleted none.
    attributes: tuple[AttributeChange, ...] = ()
    # For the comparison with what was reviewed: each attribute that changes,
    # with its whole value afterwards.
    planned: dict[str, "Tree"] = {}

    @property
    def tainted(self) -> bool:
        """Whether it is replaced because its creation did not finish."""
        return self.reason == "replace_because_tainted"


class OutputEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happens to one output: it is created, updated or deleted."""

    name: str
    action: Action
    before: Value
    after: Value
    planned: "Tree"


class Branch(msgspec.Struct, frozen=True, tag_field="is", tag="object"):
    """An object or a map."""

    items: dict[str, "Tree"]


class Items(msgspec.Struct, frozen=True, tag_field="is", tag="list"):
    """A list or a set."""

    items: tuple["Tree", ...]


class Digest(msgspec.Struct, frozen=True, tag_field="is", tag="sha256"):
    """The SHA-256 of a value as JSON."""

    hex: str


Tree = Branch | Items | Digest | Hidden | Unknown
"""A value of which only hashes are known."""


class ChangeSet(msgspec.Struct, frozen=True, kw_only=True):
    """All that a plan does."""

    # By consequence: replacements and deletions first.
    resources: tuple[ResourceEntry, ...] = ()
    outputs: tuple[OutputEntry, ...] = ()
    # What changed outside of Terraform since the last apply.
    drift: tuple[ResourceEntry, ...] = ()

    # The plan was made with errors, or leaves something out.
    errored: bool = False
    complete: bool = True

    @property
    def empty(self) -> bool:
        """Whether nothing is applied. What drifted may be back already, or is not managed."""
        return not self.resources and not self.outputs

    def counts(self) -> dict[str, int]:
        """How many resources there are of each action; a replacement counts once."""
        found = Counter("replace" if e.action.replaces else e.action.value for e in self.resources)
        names = ("replace", "delete", "forget", "create", "update", "move", "import")
        return {name: found[name] for name in names}

    def public(self) -> dict[str, Any]:
        """The change set as JSON, without what only the comparison needs."""
        shown: dict[str, Any] = msgspec.to_builtins(self)
        for entry in _entries(shown):
            entry.pop("planned", None)
        return {**shown, "counts": self.counts()}


def _entries(shown: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for topic in ("resources", "outputs", "drift"):
        yield from shown[topic]
