"""A change set as lines for people, grouped by consequence: what is gone afterwards comes first."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from cipipe.stages.terraform.changes.model import (
    Action,
    AttributeChange,
    ChangeSet,
    Hidden,
    OutputEntry,
    Plain,
    ResourceEntry,
    Unknown,
    Value,
)
from cipipe.terminal import Style, unstyled, visible

# Characters of a value, and attributes of a resource, that are shown.
_LONGEST = 80
_MOST = 12


class Consequence(msgspec.Struct, frozen=True):
    """The resources with one consequence."""

    title: str
    colour: str
    # Terraform's own sign for it.
    sign: str
    actions: frozenset[Action]

    @property
    def destroys(self) -> bool:
        return any(action.destroys for action in self.actions)

    def of(self, entries: Iterable[ResourceEntry]) -> tuple[ResourceEntry, ...]:
        return tuple(entry for entry in entries if entry.action in self.actions)


CONSEQUENCES = (
    Consequence("Replaced: deleted, then created anew", "red", "-/+", frozenset({Action.REPLACE})),
    Consequence(
        "Replaced: created anew, then the old one is deleted",
        "red",
        "+/-",
        frozenset({Action.REPLACE_CREATE_FIRST}),
    ),
    Consequence("Deleted", "red", "-", frozenset({Action.DELETE})),
    Consequence("No longer managed, and not deleted", "yellow", ".", frozenset({Action.FORGET})),
    Consequence("Moved to another address", "cyan", "~", frozenset({Action.MOVE})),
    Consequence("Imported", "cyan", "&", frozenset({Action.IMPORT})),
    Consequence("Updated in place", "yellow", "~", frozenset({Action.UPDATE})),
    Consequence("Created", "green", "+", frozenset({Action.CREATE})),
)

_REASONS = {
    "replace_because_tainted": "its creation did not finish, or it was tainted",
    "replace_by_request": "asked for by -replace",
    "replace_by_triggers": "replace_triggered_by",
    "delete_because_no_resource_config": "not in the configuration any more",
    "delete_because_no_module": "its module is not in the configuration any more",
    "delete_because_wrong_repetition": "count or for_each came or went",
    "delete_because_count_index": "count is smaller",
    "delete_because_each_key": "its key is not in for_each any more",
    "delete_because_no_move_target": "it was moved to an address that does not exist",
}


def lines(changes: ChangeSet, style: Style = unstyled) -> Iterator[str]:
    """The change set. One line says so where it is empty."""
    if changes.errored:
        yield style("The plan is not complete: planning failed.", "red")
    elif not changes.complete:
        yield style("The plan is not complete: it leaves something out.", "red")

    for group in CONSEQUENCES:
        entries = group.of(changes.resources)
        if entries:
            yield style(f"{group.title} ({len(entries)})", group.colour)
        for entry in entries:
            yield from resource(entry, group, style)

    if changes.outputs:
        yield style(f"Outputs ({len(changes.outputs)})", "bold")
        yield from map(output, changes.outputs)
    if changes.empty:
        yield "No changes."
    if changes.drift:
        yield style(f"Changed outside of Terraform ({len(changes.drift)})", "yellow")
        for entry in changes.drift:
            yield from drifted(entry)


def summary(changes: ChangeSet, *, done: bool = False) -> str:
    """`1 to replace, 2 to add`, or `1 replaced, 2 added`."""
    words = {
        "replace": ("to replace", "replaced"),
        "delete": ("to destroy", "destroyed"),
        "forget": ("to forget", "forgotten"),
        "create": ("to add", "added"),
        "update": ("to change", "changed"),
        "move": ("to move", "moved"),
        "import": ("to import", "imported"),
    }
    found = [f"{n} {words[name][done]}" for name, n in changes.counts().items() if n]
    if not found and changes.outputs:
        return "only outputs change" if not done else "only outputs changed"
    return ", ".join(found) or "no resource changes"


def shown(value: Value) -> str:
    """A value on one line, cut if it is long."""
    if isinstance(value, Hidden):
        return "(sensitive)"
    if isinstance(value, Unknown):
        return f"({value.type}, known after apply)" if value.type else "(known after apply)"
    text = visible(msgspec.json.encode(value.value).decode())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def drifted(entry: ResourceEntry) -> Iterator[str]:
    """A resource that changed outside of Terraform."""
    gone = "  is gone" if entry.action is Action.DELETE else ""
    yield f"  !   {visible(entry.address)}{gone}"
    yield from _attributes(entry.attributes)


def resource(entry: ResourceEntry, group: Consequence, style: Style = unstyled) -> Iterator[str]:
    """A resource, and what changes in it."""
    facts = []
    if entry.moved_from is not None:
        facts.append(f"from {visible(entry.moved_from)}")
    if entry.imported_id is not None:
        facts.append(f"imported from {visible(entry.imported_id) or '(known after apply)'}")
    if entry.deposed is not None:
        facts.append("left behind by a replacement that failed")
    if entry.reason in _REASONS:
        facts.append(_REASONS[entry.reason])
    rest = f"  {'; '.join(facts)}" if facts else ""
    yield f"  {style(f'{group.sign:<3}', group.colour)} {visible(entry.address)}{rest}"

    if entry.action is Action.CREATE:
        return
    # An id or ARN changes with every replacement: what caused it says more.
    told = [
        change
        for change in entry.attributes
        if change.forces_replacement
        or not (entry.action.replaces and isinstance(change.after, Unknown))
    ]
    told.sort(key=lambda change: not change.forces_replacement)
    yield from _attributes(told)


def _attributes(told: Sequence[AttributeChange]) -> Iterator[str]:
    for change in told[:_MOST]:
        forces = "  forces the replacement" if change.forces_replacement else ""
        yield f"        {visible(change.path)}: {_change(change.before, change.after)}{forces}"
    if len(told) > _MOST:
        yield f"        … and {len(told) - _MOST} more"


def output(entry: OutputEntry) -> str:
    """An output that changes."""
    sign = {Action.CREATE: "+", Action.DELETE: "-"}.get(entry.action, "~")
    name = visible(entry.name)
    if entry.action is Action.DELETE:
        return f"  {sign}   {name}"
    if entry.action is Action.CREATE:
        return f"  {sign}   {name}: {shown(entry.after)}"
    return f"  {sign}   {name}: {_change(entry.before, entry.after)}"


def _change(before: Value, after: Value) -> str:
    if isinstance(before, Hidden) and isinstance(after, Hidden):
        return "(sensitive) changes"
    if isinstance(before, Plain) and before.value is None:
        return shown(after)
    return f"{shown(before)} → {shown(after)}"
