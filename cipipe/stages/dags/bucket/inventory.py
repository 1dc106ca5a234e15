"""What the manifest says is in the bucket, beside what is there. Reads only.

One listing, whatever the number of files; where the bucket keeps no versions, a request for each
besides.
"""

import msgspec

from cipipe.model import Record
from cipipe.stages.context import StageContext
from cipipe.stages.dags.bucket.objects import newest_versions, proves, read_object
from cipipe.stages.dags.bucket.parallel import in_parallel
from cipipe.stages.dags.deploy import bucket_of
from cipipe.stages.dags.settings import Settings


class InventoryEntry(msgspec.Struct, frozen=True):
    """One key of the manifest. `state` is `ok`, `changed` (by somebody else), `missing`, or
    `uncertain` (half-way).
    """

    key: str
    state: str
    sha256: str | None
    version: str | None


class Inventory(msgspec.Struct, frozen=True):
    """A stage's files in its bucket. `foreign` counts the objects below `prefix` that are not the
    stage's.
    """

    stage: str
    state: str
    commit: str | None = None
    finished_at: str | None = None
    bucket: str | None = None
    prefix: str | None = None
    files: tuple[InventoryEntry, ...] = ()
    foreign: int = 0

    @property
    def drifted(self) -> tuple[InventoryEntry, ...]:
        return tuple(file for file in self.files if file.state != "ok")


def inventory(context: StageContext[Settings], record: Record) -> Inventory:
    """Look at every key that the record names."""
    prefix = context.stage.settings.prefix
    entries = record.data.get("manifest") or {}
    bucket = (
        context.aws.bucket(record.data["bucket"])
        if record.data.get("bucket")
        else bucket_of(context)
    )
    there = newest_versions(bucket, prefix)
    unproven = sorted(
        key for key, entry in entries.items() if entry["sha256"] and not proves(entry)
    )
    contents = {
        key: found.sha256
        for key, found in in_parallel(lambda key: read_object(bucket, key), unproven)
    }
    files = []
    for key, entry in sorted(entries.items()):
        version = there.get(key) if key.startswith(prefix) else _version(context, bucket.name, key)
        state = (
            "missing"
            if version is None
            else "uncertain"
            if entry["sha256"] is None
            else "ok"
            if version == (entry["version"] or "null")
            and contents.get(key, entry["sha256"]) == entry["sha256"]
            else "changed"
        )
        files.append(InventoryEntry(key, state, entry["sha256"], version))
    return Inventory(
        context.stage.name,
        record.state.value,
        record.commit,
        record.finished_at,
        bucket.name,
        prefix,
        tuple(files),
        len(there.keys() - entries.keys()),
    )


def _version(context: StageContext[Settings], bucket: str, key: str) -> str | None:
    head = context.aws.bucket(bucket).head(key)
    return (head.version or "null") if head else None
