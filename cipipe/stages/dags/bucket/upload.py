"""Write objects to the bucket, a few at a time."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from cipipe.stages.context import StageContext
from cipipe.stages.dags.bucket import ownership
from cipipe.stages.dags.bucket.desired import Desired
from cipipe.stages.dags.bucket.objects import bucket_of, read_object
from cipipe.stages.dags.bucket.parallel import Throttled, in_parallel
from cipipe.stages.dags.settings import Settings


def write_objects(
    context: StageContext[Settings],
    entries: dict[str, Any],
    keys: Iterable[str],
    *,
    desired: Desired,
    absent: frozenset[str],
) -> None:
    """Write these keys, and put what was written into the manifest's
    `entries`.

    `absent` are keys without an object when the bucket was read. Raises
    RefusedError where an object of another owner appeared meanwhile, and
    ConflictError where a later run took over.
    """
    bucket = bucket_of(context)
    check_ours = Throttled(context.still_ours, seconds=context.pace.ownership_check)

    def put(key: str) -> dict[str, Any]:
        check_ours()
        write = partial(
            bucket.put,
            key,
            desired.bodies[key],
            content_type="text/x-python" if key.endswith(".py") else "application/octet-stream",
            owner=ownership.owner(context).text,
        )
        written = write(if_none_match=key in absent)
        if written is None:
            # An object appeared since the bucket was read; or the first
            # attempt of this very request succeeded, and its answer was
            # lost.
            ownership.refuse_foreign(context, bucket.name, {key: read_object(bucket, key)})
            written = write()
        version = written.version if written else None
        return {"sha256": desired.hashes[key], "version": version}

    for key, entry in in_parallel(put, keys):
        entries[key] = entry
        context.line(f"uploaded {key}")
