"""What differs between two manifests of a dbt project. Pure.

dbt itself decides what is modified (`state:modified`); what it does not list is added here: nodes
that are gone, seeds that are too large for dbt to compare, and what depends on a change.
https://docs.getdbt.com/reference/node-selection/state-selection
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

Manifest: TypeAlias = Mapping[str, Any]

# The parts of a manifest that have nodes.
_PARTS = ("nodes", "sources", "exposures", "metrics", "semantic_models", "saved_queries")


class ModelChanges(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes of a dbt project that a commit changes, by dbt's unique id, sorted."""

    # New nodes included.
    modified: tuple[str, ...] = ()
    # Not changed themselves, but built from something that is.
    downstream: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        return bool(self.modified or self.deleted)


def parsed(body: bytes) -> Manifest | None:
    """The manifest in a file; None if it is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    is_manifest = isinstance(document, dict) and isinstance(document.get("nodes"), dict)
    return document if is_manifest else None


def listed(printed: str) -> set[str]:
    """The unique ids in what `dbt ls --output json` printed, among other lines."""
    found = set()
    for line in printed.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("unique_id"), str):
            found.add(entry["unique_id"])
    return found


def changes(old: Manifest, new: Manifest, modified: Collection[str]) -> ModelChanges:
    """The changes, given what dbt says is modified."""
    there = set(_ids(new))
    changed = {node for node in modified if node in there}
    children = new.get("child_map") or {}
    reached = set(changed)
    waiting = list(changed)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in reached:
                reached.add(child)
                waiting.append(child)
    return ModelChanges(
        modified=tuple(sorted(changed)),
        downstream=tuple(sorted((reached - changed) & there)),
        deleted=tuple(sorted(set(_ids(old)) - there)),
    )


def large_seeds(old: Manifest, new: Manifest) -> dict[str, str]:
    """The seeds that dbt compares by path only, because they have more than
    1 MiB: their files, relative to the project, by unique id.
    """
    before = old.get("nodes") or {}
    return {
        name: str(node.get("original_file_path", ""))
        for name, node in (new.get("nodes") or {}).items()
        if node.get("resource_type") == "seed"
        and name in before
        and (node.get("checksum") or {}).get("name") == "path"
    }


def selectors(manifest: Manifest, names: Iterable[str]) -> list[str]:
    """What makes dbt select these nodes and everything below them."""
    nodes = manifest.get("nodes") or {}
    return [f"fqn:{'.'.join(nodes[name]['fqn'])}+" for name in sorted(names) if name in nodes]


def shown(found: ModelChanges) -> Iterator[str]:
    """Lines for people."""
    for title, names in (
        ("modified", found.modified),
        ("downstream", found.downstream),
        ("deleted", found.deleted),
    ):
        for name in names:
            yield f"{title:<10} {name}"


def summary(found: ModelChanges) -> str:
    if not found.any:
        return "no model changes"
    counts = (
        (len(found.modified), "modified"),
        (len(found.downstream), "downstream"),
        (len(found.deleted), "deleted"),
    )
    return "dbt: " + ", ".join(f"{number} {what}" for number, what in counts if number)


def _ids(manifest: Manifest) -> Iterable[str]:
    for part in _PARTS:
        yield from manifest.get(part) or {}
