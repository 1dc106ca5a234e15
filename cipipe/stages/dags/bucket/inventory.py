"""What the manifest says is in the bucket, beside what is there. Reads
only.

One listing, whatever the number of files; without versioning, a request for
each file besides.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from cipipe.model import Record
from cipipe.stages.context import StageContext
from cipipe.stages.dags.bucket.objects import bucket_of, newest_versions, proves, read_object
from cipipe.stages.dags.bucket.parallel import in_parallel
from cipipe.stages.dags.settings import Settings


class InventoryEntry(msgspec.Struct, frozen=True):
    """One key of the manifest."""

    key: str
    # `ok`, `changed` (by somebody else), `missing`, or `uncertain` (a run
    # was stopped)
    state: str
    # As the manifest has it; None while it is uncertain.
    sha256: str | None
    # As the bucket has it; None where there is no object.
    version: str | None


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """A stage's files in its bucket. Most of it is None where nothing is deployed."""

    stage: str
    # That of the record, or `never-deployed`.
    state: str
    commit: str | None = None
    finished_at: str | None = None
    bucket: str | None = None
    prefix: str | None = None
    files: tuple[InventoryEntry, ...] = ()
    # How many objects below `prefix` are not the stage's.
    foreign: int = 0

    @property
    def drifted(self) -> tuple[InventoryEntry, ...]:
        return tuple(file for file in self.files if file.state != "ok")


def inventory(context: StageContext[Settings], record: Record) -> Inventory:
    """Look at every key that the record names."""
    prefix = context.stage.settings.prefix
    entries = record.data.get("manifest") or {}
    recorded = record.data.get("bucket")
    bucket = context.aws.bucket(recorded) if recorded else bucket_of(context)

    listed = newest_versions(bucket, prefix)
    unproven = sorted(
        key for key, entry in entries.items() if entry["sha256"] and not proves(entry)
    )
    found = in_parallel(lambda key: read_object(bucket, key), unproven)
    contents = {key: current.sha256 for key, current in found}

    files = []
    for key, entry in sorted(entries.items()):
        if key.startswith(prefix):
            version = listed.get(key)
        else:
            head = bucket.head(key)
            version = (head.version or "null") if head else None
        state = _state(entry, version, contents.get(key, entry["sha256"]))
        files.append(InventoryEntry(key=key, state=state, sha256=entry["sha256"], version=version))
    return Inventory(
        stage=context.stage.name,
        state=record.state.value,
        commit=record.commit,
        finished_at=record.finished_at,
        bucket=bucket.name,
        prefix=prefix,
        files=tuple(files),
        foreign=len(listed.keys() - entries.keys()),
    )


def _state(entry: Mapping[str, Any], version: str | None, sha256: str | None) -> str:
    if version is None:
        return "missing"
    if entry["sha256"] is None:
        return "uncertain"
    # A bucket without versioning has the version `null`, which the manifest
    # has as None.
    same = version == (entry["version"] or "null") and sha256 == entry["sha256"]
    return "ok" if same else "changed"
