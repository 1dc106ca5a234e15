"""What is in the bucket now, read with one listing.

A version never changes: where the newest version of a key is the one in the
manifest, the manifest's SHA-256 is the object's. Size, time and ETag prove
nothing, and are not looked at. Only keys that are not as the manifest has
them cost a request each. So does every key of a bucket without versioning,
where all versions are `null`.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cipipe.stages.context import StageContext
from cipipe.stages.dags.bucket.parallel import in_parallel
from cipipe.stages.dags.settings import Settings
from cipipe.stages.settings import literal
from cipipe.tools.aws.s3 import Bucket


class CurrentObject(NamedTuple):
    """A key as it is now."""

    # None where there is no object.
    sha256: str | None
    version: str | None
    # What the object says about its owner, if it was asked: not where the
    # manifest proved it.
    owner: str | None = None


ABSENT = CurrentObject(sha256=None, version=None)


def bucket_of(context: StageContext[Settings]) -> Bucket:
    """The stage's bucket."""
    return context.aws.bucket(literal(context.stage.settings.bucket))


def proves(entry: Mapping[str, Any]) -> bool:
    """Whether the version in an entry of the manifest is one that no other write can have."""
    return entry.get("version") not in {None, "null"}


def newest_versions(bucket: Bucket, prefix: str) -> dict[str, str]:
    """The version id of every object below `prefix`, by key. One request for 1,000 versions."""
    return {
        found.key: found.id
        for found in bucket.versions(prefix)
        if found.latest and not found.deleted
    }


def current_objects(
    bucket: Bucket,
    keys: Iterable[str],
    *,
    known: Mapping[str, Mapping[str, Any]],
    prefix: str,
    listed: Mapping[str, str] | None = None,
) -> dict[str, CurrentObject]:
    """Each of the keys as it is now.

    `known` has the entries of the manifest. Keys outside of `prefix` cost a
    request each. `listed` is what `newest_versions` returned, if that was
    called already.
    """
    wanted = sorted(keys)
    if not wanted:
        return {}
    if listed is None:
        listed = newest_versions(bucket, prefix)

    found = {}
    unsure = []
    for key in wanted:
        entry = known.get(key) or {}
        if key.startswith(prefix) and key not in listed:
            found[key] = ABSENT
        elif entry.get("sha256") and proves(entry) and entry["version"] == listed.get(key):
            found[key] = CurrentObject(entry["sha256"], entry["version"])
        else:
            unsure.append(key)
    return found | dict(in_parallel(lambda key: read_object(bucket, key), unsure))


def read_object(bucket: Bucket, key: str) -> CurrentObject:
    """Hash, version and owner of one object."""
    head = bucket.head(key)
    if head is None:
        return ABSENT
    # S3 checked this hash when the object was uploaded.
    if head.sha256 is not None:
        return CurrentObject(head.sha256, head.version, head.owner)

    # Other tools upload without a SHA-256: only the content can tell.
    stored = bucket.get(key)
    if stored is None:
        return ABSENT
    return CurrentObject(hashlib.sha256(stored.body).hexdigest(), stored.version, head.owner)
