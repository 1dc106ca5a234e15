"""What lies in the bucket, read with one listing: only keys that are not as the manifest has them
cost a request each.

A version never changes: where the bucket's newest version of a key is the one that the manifest
names, the manifest's SHA-256 is the object's. Size, time and ETag count for nothing. Where the
bucket keeps no versions, all have the same one, `null`, which proves nothing: such keys cost a
request.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cipipe.stages.dags.bucket.parallel import in_parallel
from cipipe.tools.aws.s3 import Bucket


class CurrentObject(NamedTuple):
    """A key as it is now: (None, None) where there is no object. `owner` is what the object says,
    where it was asked.
    """

    sha256: str | None
    version: str | None
    owner: str | None = None


ABSENT = CurrentObject(None, None)


def proves(entry: Mapping[str, Any]) -> bool:
    """Whether the version that a manifest names is one that no other write can have."""
    return entry.get("version") not in {None, "null"}


def newest_versions(bucket: Bucket, prefix: str) -> dict[str, str]:
    """The version id of every object that is below `prefix` now."""
    return {
        found.key: found.id
        for found in bucket.versions(prefix)
        if found.latest and not found.deleted
    }


def current_objects(
    bucket: Bucket,
    keys: Iterable[str],
    known: Mapping[str, Mapping[str, Any]],
    prefix: str,
    listed: Mapping[str, str] | None = None,
) -> dict[str, CurrentObject]:
    """Each of the keys as it is now. `known` is what the manifest says of keys; those outside
    `prefix` cost a request.

    `listed` is what `newest` gives, where that was asked already.
    """
    wanted = sorted(keys)
    there = listed if listed is not None else newest_versions(bucket, prefix) if wanted else {}
    found = {}
    unsure = []
    for key in wanted:
        entry = known.get(key) or {}
        if key.startswith(prefix) and key not in there:
            found[key] = ABSENT
        elif entry.get("sha256") and proves(entry) and entry["version"] == there.get(key):
            found[key] = CurrentObject(entry["sha256"], entry["version"])
        else:
            unsure.append(key)
    return found | dict(in_parallel(lambda key: read_object(bucket, key), unsure))


def read_object(bucket: Bucket, key: str) -> CurrentObject:
    """Hash and version of one object: as S3 checked it at its upload, else by reading it (other
    tools leave no SHA-256).
    """
    head = bucket.head(key)
    if head is None:
        return ABSENT
    if head.sha256 is not None:
        return CurrentObject(head.sha256, head.version, head.owner)
    stored = bucket.get(key)
    return (
        CurrentObject(hashlib.sha256(stored.body).hexdigest(), stored.version, head.owner)
        if stored
        else ABSENT
    )
