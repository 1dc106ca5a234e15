"""Reads a plan as a change set. Whatever is sensitive is left out here.

A value counts as sensitive where Terraform says so, and also where a
sensitive value is found in it: providers copy values into computed
attributes, and those are not marked.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from cipipe.redact import Redactor
from cipipe.stages.terraform.changes.model import (
    Action,
    AttributeChange,
    Branch,
    ChangeSet,
    Digest,
    Hidden,
    Items,
    OutputEntry,
    Plain,
    ResourceEntry,
    Tree,
    Unknown,
    Value,
)
from cipipe.tools.terraform.shown import Change, ResourceChange, ShownPlan

_ACTIONS = {
    ("create",): Action.CREATE,
    ("update",): Action.UPDATE,
    ("delete",): Action.DELETE,
    ("delete", "create"): Action.REPLACE,
    ("create", "delete"): Action.REPLACE_CREATE_FIRST,
    ("forget",): Action.FORGET,
    # Replaced, and the old one stays where it is, unmanaged.
    ("create", "forget"): Action.REPLACE_CREATE_FIRST,
    ("forget", "create"): Action.REPLACE,
}

# The consequences in the order in which people should see them.
_ORDER = (
    Action.REPLACE,
    Action.REPLACE_CREATE_FIRST,
    Action.DELETE,
    Action.FORGET,
    Action.MOVE,
    Action.IMPORT,
    Action.UPDATE,
    Action.CREATE,
)

# Where a sensitive value is found in a text.
_Hides = Callable[[str], bool]


def change_set(shown: ShownPlan, redactor: Redactor) -> ChangeSet:
    """The change set of a plan. Its sensitive values are registered with the redactor."""
    for value in _sensitive_values(shown):
        redactor.register_value(value)
    marks = _Marks(lambda text: redactor.text(text) != text)

    resources = [_resource(change, marks) for change in shown.changes()]
    drift = [
        entry
        for entry in (_resource(change, marks) for change in shown.resource_drift)
        # A provider that reads null back as an empty value has changed nothing.
        if entry.attributes or entry.action is not Action.UPDATE
    ]
    outputs = [
        _output(name, change, marks)
        for name, change in sorted(shown.output_changes.items())
        if change.actions != ("no-op",)
    ]
    return ChangeSet(
        resources=tuple(sorted(resources, key=_consequence)),
        outputs=tuple(outputs),
        drift=tuple(sorted(drift, key=_consequence)),
        errored=shown.errored,
        complete=shown.complete,
    )


class _Absent:
    """No value at all, which is not null."""


_ABSENT = _Absent()


class _Secret(msgspec.Struct, frozen=True, eq=True):
    """A sensitive value, while a change is read: to tell whether it changes."""

    value: Any


class _Marks:
    """Makes values of which the sensitive and the unknown parts are marked."""

    def __init__(self, hides: _Hides) -> None:
        self._hides = hides

    def marked(self, value: Any, sensitive: Any, unknown: Any = False, before: Any = None) -> Any:
        """The value with `_Secret` and `Unknown` in it. `before` gives the type of an unknown."""
        if sensitive is True:
            return _Secret(value)
        if unknown is True:
            return Unknown(_type_of(before))
        if isinstance(value, dict) or isinstance(unknown, dict):
            # Keys cannot be marked: the whole map is, where a key is sensitive.
            if any(map(self._hides, value or {})):
                return _Secret(value)
            return self.attributes(value or {}, sensitive, unknown, before)
        if isinstance(value, list) or isinstance(unknown, list):
            return self._list(value or [], sensitive, unknown, before)
        is_text = isinstance(value, str | int | float) and not isinstance(value, bool)
        if is_text and self._hides(str(value)):
            return _Secret(value)
        return value

    def attributes(
        self, value: Any, sensitive: Any, unknown: Any = False, before: Any = None
    ) -> dict[str, Any]:
        """Those of a resource, whose names are the provider's."""
        unknown = unknown if isinstance(unknown, dict) else {}
        sensitive = sensitive if isinstance(sensitive, dict) else {}
        before = before if isinstance(before, dict) else {}
        return {
            key: self.marked(
                value.get(key), sensitive.get(key), unknown.get(key, False), before.get(key)
            )
            for key in sorted({*value, *unknown})
        }

    def _list(self, value: Any, sensitive: Any, unknown: Any, before: Any) -> list[Any]:
        length = max(len(value), len(unknown) if isinstance(unknown, list) else 0)
        return [
            self.marked(
                _at(value, index), _at(sensitive, index), _at(unknown, index), _at(before, index)
            )
            for index in range(length)
        ]


def _at(items: Any, index: int) -> Any:
    return items[index] if isinstance(items, list) and index < len(items) else None


_TYPES: dict[type, str] = {
    bool: "bool",
    str: "string",
    int: "number",
    float: "number",
    list: "list",
    dict: "object",
}


def _type_of(value: Any) -> str | None:
    return _TYPES.get(type(value))


def _resource(entry: ResourceChange, marks: _Marks) -> ResourceEntry:
    change = entry.change
    before = marks.attributes(change.before or {}, change.before_sensitive)
    after = marks.attributes(
        change.after or {}, change.after_sensitive, change.after_unknown, change.before
    )
    moved_from = entry.previous_address if entry.previous_address != entry.address else None
    action = _ACTIONS.get(change.actions)
    if action is None:
        # A no-op that only changes the state.
        action = Action.IMPORT if change.importing is not None else Action.MOVE

    forcing = [_path(path) for path in change.replace_paths]
    changed = _changed(before, after) if action not in {Action.DELETE, Action.FORGET} else {}
    # The new object gets all of its values, as one that is created does.
    planned = _changed({}, after) if action.replaces else changed
    attributes = [
        AttributeChange(
            path=path,
            before=_value(old),
            after=_value(new),
            forces_replacement=any(_inside(path, forced) for forced in forcing),
        )
        for name in changed
        for path, old, new in _leaves(name, before.get(name, _ABSENT), after.get(name, _ABSENT))
    ]
    return ResourceEntry(
        address=entry.address,
        type=entry.type,
        action=action,
        reason=entry.action_reason,
        moved_from=moved_from,
        imported_id=(change.importing.id or "") if change.importing is not None else None,
        deposed=entry.deposed,
        attributes=tuple(attributes),
        planned={name: _tree(value) for name, value in planned.items()},
    )


def _output(name: str, change: Change, marks: _Marks) -> OutputEntry:
    before = marks.marked(change.before, change.before_sensitive)
    after = marks.marked(change.after, change.after_sensitive, change.after_unknown, change.before)
    return OutputEntry(
        name=name,
        action=_ACTIONS.get(change.actions, Action.UPDATE),
        before=_value(before),
        after=_value(after),
        planned=_tree(after),
    )


def _changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The attributes that differ, with their values afterwards."""
    return {
        name: after.get(name)
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }


def _leaves(path: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """The values inside of an attribute that differ.

    Lists of another length are one value: which of their items is new, only
    the provider can tell.
    """
    if before == after:
        return
    if isinstance(after, dict) and (isinstance(before, dict) or before in (None, _ABSENT)):
        old = before if isinstance(before, dict) else {}
        for key in sorted({*old, *after}):
            yield from _leaves(_step(path, key), old.get(key, _ABSENT), after.get(key, _ABSENT))
        return
    lists = isinstance(before, list) and isinstance(after, list)
    if lists and len(before) == len(after) and any(isinstance(i, dict | list) for i in after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _leaves(_step(path, index), old, new)
        return
    empty = before in (None, _ABSENT) and after in (None, _ABSENT)
    if not empty:
        yield path, before, after


def _value(marked: Any) -> Value:
    """A marked value as it may be shown."""
    if isinstance(marked, _Secret):
        return Hidden()
    if isinstance(marked, Unknown):
        return marked
    return Plain(_shown(marked))


def _shown(marked: Any) -> Any:
    """JSON with words in place of what is sensitive or unknown inside of it."""
    if isinstance(marked, dict):
        return {key: _shown(value) for key, value in marked.items()}
    if isinstance(marked, list):
        return [_shown(value) for value in marked]
    if isinstance(marked, _Secret):
        return "(sensitive)"
    if isinstance(marked, Unknown):
        return "(known after apply)"
    return None if marked is _ABSENT else marked


def _tree(marked: Any) -> Tree:
    if isinstance(marked, dict):
        return Branch({key: _tree(value) for key, value in sorted(marked.items())})
    if isinstance(marked, list):
        return Items(tuple(_tree(value) for value in marked))
    if isinstance(marked, _Secret):
        return Hidden()
    if isinstance(marked, Unknown):
        return marked
    encoded = msgspec.json.encode(None if marked is _ABSENT else marked)
    return Digest(hashlib.sha256(encoded).hexdigest())


def _path(keys: Iterable[str | int]) -> str:
    path = ""
    for key in keys:
        path = _step(path, key)
    return path


def _step(path: str, key: str | int) -> str:
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not key.replace("_", "a").replace("-", "a").isalnum():
        return f"{path}[{msgspec.json.encode(key).decode()}]"
    return f"{path}.{key}" if path else key


def _inside(path: str, outer: str) -> bool:
    """Whether a path leads to that value, into it, or to what it is in."""
    return any(
        whole == part or whole.startswith((f"{part}.", f"{part}["))
        for whole, part in ((path, outer), (outer, path))
    )


def _consequence(entry: ResourceEntry) -> tuple[int, str]:
    return _ORDER.index(entry.action), entry.address


def _sensitive_values(shown: ShownPlan) -> Iterator[Any]:
    yield from shown.sensitive_variables()
    for output in shown.planned_values.outputs.values():
        if output.sensitive and output.value is not msgspec.UNSET:
            yield output.value
    # Data sources that were read already are in no change.
    for resource in shown.prior_state.all_resources():
        yield from _sensitive_parts(resource.values, resource.sensitive_values)
    changes = [entry.change for entry in (*shown.resource_changes, *shown.resource_drift)]
    for change in [*changes, *shown.output_changes.values()]:
        yield from _sensitive_parts(change.before, change.before_sensitive)
        yield from _sensitive_parts(change.after, change.after_sensitive)


def _sensitive_parts(value: Any, sensitive: Any) -> Iterator[Any]:
    if sensitive is True:
        yield value
    elif isinstance(sensitive, dict) and isinstance(value, dict):
        for key, inner in sensitive.items():
            yield from _sensitive_parts(value.get(key), inner)
    elif isinstance(sensitive, list) and isinstance(value, list):
        for item, inner in zip(value, sensitive, strict=False):
            yield from _sensitive_parts(item, inner)
