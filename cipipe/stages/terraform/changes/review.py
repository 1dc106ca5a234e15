"""What was reviewed: a change set without any value, and how a later plan compares with it.

A merge request's job stores it. What it does not have is the state of
before, so it is found again after a squash or a rebase, by the content that
it was planned for.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from cipipe.stages.terraform.changes.model import (
    Action,
    Branch,
    ChangeSet,
    Digest,
    Items,
    OutputEntry,
    ResourceEntry,
    Tree,
    Unknown,
)


class ReviewedResource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a reviewed plan does to one resource."""

    action: Action
    moved_from: str | None = None
    imported_id: str | None = None
    # Each attribute that changes, with its value afterwards.
    attributes: dict[str, Tree] = {}


class ReviewedOutput(msgspec.Struct, frozen=True):
    """What a reviewed plan does to an output."""

    action: Action
    value: Tree


class ReviewedChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What a reviewed plan does: names, actions, and hashes of values."""

    # By address; of an object that a failed replacement left behind with its key.
    resources: dict[str, ReviewedResource] = {}
    outputs: dict[str, ReviewedOutput] = {}

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON: sorted keys, no spaces."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def reviewed(changes: ChangeSet) -> ReviewedChanges:
    """What there is to review in a change set."""
    return ReviewedChanges(
        resources={
            _name(entry): ReviewedResource(
                action=entry.action,
                moved_from=entry.moved_from,
                imported_id=entry.imported_id,
                attributes=entry.planned,
            )
            for entry in changes.resources
        },
        outputs={
            entry.name: ReviewedOutput(entry.action, entry.planned) for entry in changes.outputs
        },
    )


def unreviewed(changes: ChangeSet, review: ReviewedChanges) -> tuple[str, ...]:
    """What a plan does beyond what was reviewed, each with its address.

    Less than what was reviewed is fine: a run that failed in between did
    some of it. A value that was not known then may be anything now.
    """
    found = [
        f"{_name(entry)}: {why}"
        for entry in changes.resources
        for why in _beyond(entry, review.resources.get(_name(entry)))
    ]
    found += [
        f"output {entry.name}: {why}"
        for entry in changes.outputs
        for why in _output_beyond(entry, review.outputs.get(entry.name))
    ]
    return tuple(found)


def _name(entry: ResourceEntry) -> str:
    return f"{entry.address} (deposed {entry.deposed})" if entry.deposed else entry.address


def _beyond(entry: ResourceEntry, review: ReviewedResource | None) -> Iterator[str]:
    if review is None:
        # Nobody ever sees one on a merge request: it is there only after a
        # replacement that failed.
        if entry.deposed is None:
            yield f"{_VERBS[entry.action]}, which was not reviewed"
        return
    if entry.action is not review.action and not _completes(entry, review):
        yield f"{_VERBS[entry.action]}; what was reviewed {_VERBS[review.action]} it"
        return
    if entry.moved_from not in {None, review.moved_from}:
        yield f"is moved from {entry.moved_from}, which was not reviewed"
    if entry.imported_id is not None and entry.imported_id != review.imported_id:
        yield "is imported from another object than the reviewed one"

    for name, value in entry.planned.items():
        if name not in review.attributes:
            yield f"{name} changes too, which was not reviewed"
        elif (path := _mismatch(value, review.attributes[name], name)) is not None:
            yield f"{path} gets another value than the reviewed one"
    yield from _unset(entry, review)


def _completes(entry: ResourceEntry, review: ReviewedResource) -> bool:
    """Whether it makes what a run that failed has left half made, or only deleted."""
    if entry.action is Action.CREATE:
        return review.action.replaces
    return review.action is Action.CREATE and entry.tainted and entry.action.replaces


def _unset(entry: ResourceEntry, review: ReviewedResource) -> Iterator[str]:
    """The reviewed values that a new object does not get."""
    if entry.action is Action.CREATE or entry.action.replaces:
        for name in sorted(review.attributes.keys() - entry.planned.keys()):
            value = review.attributes[name]
            if not _is_null(value) and not isinstance(value, Unknown):
                yield f"{name} is not set, and was to be"


_VERBS = {
    Action.CREATE: "creates",
    Action.UPDATE: "updates",
    Action.REPLACE: "replaces",
    Action.REPLACE_CREATE_FIRST: "replaces",
    Action.DELETE: "deletes",
    Action.FORGET: "forgets",
    Action.MOVE: "moves",
    Action.IMPORT: "imports",
}


def _output_beyond(entry: OutputEntry, review: ReviewedOutput | None) -> Iterator[str]:
    if review is None:
        yield "changes, which was not reviewed"
    elif entry.action is not review.action:
        yield f"{_VERBS[entry.action]}; what was reviewed {_VERBS[review.action]} it"
    elif (path := _mismatch(entry.planned, review.value, entry.name)) is not None:
        yield f"{path} gets another value than the reviewed one"


def _mismatch(planned: Tree, review: Tree, path: str) -> str | None:
    """Where a planned value is not the reviewed one; None where it is."""
    if isinstance(review, Unknown):
        return None if _may_be(planned, review) else path
    if isinstance(planned, Branch) and isinstance(review, Branch):
        return _object_mismatch(planned, review, path)
    if isinstance(planned, Items) and isinstance(review, Items):
        return _list_mismatch(planned, review, path)
    return None if planned == review else path


def _object_mismatch(planned: Branch, review: Branch, path: str) -> str | None:
    for key in sorted({*planned.items, *review.items}):
        inner = f"{path}.{key}"
        ours = planned.items.get(key)
        theirs = review.items.get(key)
        if ours is None or theirs is None:
            # An attribute that is not set is the same as none.
            left = ours or theirs
            if left is not None and not _is_null(left) and not isinstance(theirs, Unknown):
                return inner
        elif (found := _mismatch(ours, theirs, inner)) is not None:
            return found
    return None


def _list_mismatch(planned: Items, review: Items, path: str) -> str | None:
    if len(planned.items) != len(review.items):
        return path
    pairs = zip(planned.items, review.items, strict=True)
    wrong = [_mismatch(ours, theirs, f"{path}[{n}]") for n, (ours, theirs) in enumerate(pairs)]
    first = next((found for found in wrong if found is not None), None)
    if first is None or not any(map(_has_unknown, review.items)):
        return first

    # A set, perhaps: its items have no fixed order while some are not known.
    # What is known completely is looked at first: an item with unknown
    # values matches many.
    left = sorted(review.items, key=_has_unknown)
    for ours in planned.items:
        match = next((one for one in left if _mismatch(ours, one, "") is None), None)
        if match is None:
            return first
        left.remove(match)
    return None


def _may_be(planned: Tree, unknown: Unknown) -> bool:
    """Whether a value may be what was not known then, by its type as far as that is known."""
    if isinstance(planned, Unknown):
        return None in {planned.type, unknown.type} or planned.type == unknown.type
    if isinstance(planned, Branch):
        return unknown.type in {None, "object"}
    if isinstance(planned, Items):
        return unknown.type in {None, "list"}
    # Of a scalar only the hash is known.
    return unknown.type not in {"list", "object"}


def _has_unknown(tree: Tree) -> bool:
    if isinstance(tree, Branch):
        return any(map(_has_unknown, tree.items.values()))
    if isinstance(tree, Items):
        return any(map(_has_unknown, tree.items))
    return isinstance(tree, Unknown)


_NULL = Digest(hashlib.sha256(b"null").hexdigest())


def _is_null(tree: Tree) -> bool:
    return tree == _NULL


def as_json(review: ReviewedChanges) -> dict[str, Any]:
    """What was reviewed as JSON, as it is stored."""
    found: dict[str, Any] = msgspec.to_builtins(review, order="sorted")
    return found


def from_json(found: dict[str, Any]) -> ReviewedChanges:
    """What was reviewed, from its JSON. Raises msgspec.MsgspecError."""
    return msgspec.convert(found, ReviewedChanges)
