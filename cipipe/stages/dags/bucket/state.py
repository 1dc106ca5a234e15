"""Look at the bucket before writing to it, and refuse where that would harm others."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cipipe.stages.context import StageContext
from cipipe.stages.dags.bucket import manifest, ownership, sharing
from cipipe.stages.dags.bucket.objects import (
    CurrentObject,
    bucket_of,
    current_objects,
    newest_versions,
)
from cipipe.stages.dags.files import count
from cipipe.stages.dags.settings import Settings


class BucketState(NamedTuple):
    """What the stage owns, and what is there."""

    # Entries of the manifest that are the stage's own, and still are.
    owned: dict[str, Any]
    # Keys that it still owns in buckets that it used before, by bucket.
    former: dict[str, list[str]]
    # Every key that is owned or wanted, as it is now.
    present: dict[str, CurrentObject]


def read_state(
    context: StageContext[Settings], data: Mapping[str, Any], wanted: Iterable[str]
) -> BucketState:
    """Read the bucket, with one listing if nothing changed. `data` is that
    of the record.

    Raises RefusedError where a key to be written belongs to another stage,
    environment or project.
    """
    bucket = bucket_of(context)
    prefix = context.stage.settings.prefix
    wanted = set(wanted)
    sharing.refuse_taken(context, bucket.name, wanted)

    owned, former = manifest.owned(data, bucket.name)
    owned = sharing.without_taken(context, bucket.name, owned)
    former = sharing.ours(context, former)

    listed = newest_versions(bucket, prefix) if wanted or owned else {}
    present = current_objects(
        bucket, wanted | owned.keys(), known=owned, prefix=prefix, listed=listed
    )
    ownership.refuse_foreign(context, bucket.name, {key: present[key] for key in wanted})
    # A stage that owns nothing yet may have been given a folder of others
    # by mistake.
    if not owned:
        ownership.refuse_neighbours(context, bucket, listed.keys() - wanted)

    lost = ownership.foreign(context, present)
    if lost:
        context.line(
            f"{count(len(lost), 'object')} of the record belong to others by now, and stay"
        )
    owned = {key: entry for key, entry in owned.items() if key not in lost}
    return BucketState(owned, former, present)


def read_again(
    context: StageContext[Settings], entries: Mapping[str, Any], *, kept: set[str], gone: set[str]
) -> tuple[dict[str, CurrentObject], set[str]]:
    """Look once more at keys that are not uploaded: `kept` ones, and those
    to delete (`gone`).

    Returns the kept ones as they are now, and the keys to delete that
    belong to others by now. Raises RefusedError where a kept one does.
    """
    bucket = bucket_of(context)
    prefix = context.stage.settings.prefix
    found = current_objects(bucket, kept | gone, known=entries, prefix=prefix)
    lost = set(ownership.foreign(context, {key: found[key] for key in gone}))
    present = {key: found[key] for key in kept}
    ownership.refuse_foreign(context, bucket.name, present)
    return present, lost
