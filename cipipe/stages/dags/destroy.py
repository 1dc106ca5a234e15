"""Deleting what the stage owns, with all versions, so that the bucket can go too. What others put
there stays.
"""

from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.dags.bucket import manifest, ownership, sharing
from cipipe.stages.dags.bucket.objects import current_objects, proves
from cipipe.stages.dags.bucket.parallel import Throttled, in_parallel
from cipipe.stages.dags.files import count
from cipipe.stages.dags.settings import Settings
from cipipe.tools.aws.errors import AwsError


def list_owned(context: StageContext[Settings], result: StageResult) -> None:
    """Say what will be deleted. Raises RefusedError where some of it is another's."""
    places = sharing.ours(context, manifest.places(result.data, context.stage.settings.bucket))
    for name, keys in places.items():
        _refuse_foreign(context, result, name, keys)
        for key in keys:
            context.line(f"s3://{name}/{key}")
    context.line(
        f"{count(sum(map(len, places.values())), 'object')} to delete; what others put there stays"
    )


def _refuse_foreign(
    context: StageContext[Settings], result: StageResult, name: str, keys: list[str]
) -> None:
    """Raise RefusedError where a key that the record names has become another's, before anything is
    deleted.
    """
    known = manifest.entries(result.data, name)
    try:
        there = current_objects(
            context.aws.bucket(name), keys, known, context.stage.settings.prefix
        )
    except AwsError as error:
        if error.code != "NoSuchBucket":
            raise
        return
    ownership.refuse_foreign(context, name, there)


def purge(context: StageContext[Settings], result: StageResult) -> None:
    """Delete every version of what the stage owns, and of what it owned and has deleted."""
    places = sharing.ours(context, manifest.places(result.data, context.stage.settings.bucket))
    versions = sum(purge_keys(context, result, name, keys) for name, keys in places.items())
    if result.data.get("deleted"):
        versions += purge_keys(
            context, result, result.data["bucket"], result.data["deleted"], absent=True
        )
    result.data |= {"manifest": {}, "deleted": [], "former": {}}
    result.summary = f"{count(sum(map(len, places.values())), 'object')} deleted, with {count(versions, 'version')}"


def purge_keys(
    context: StageContext[Settings],
    result: StageResult,
    name: str,
    keys: list[str],
    *,
    absent: bool = False,
) -> int:
    """Delete every version of some keys of a bucket that may be gone; gives how many there were.

    Raises ConflictError where a later run has taken the stage over. `absent`: only of those where
    no object is now; what is there again has been put there by others.
    """
    versions = 0
    known = manifest.entries(result.data, name)
    bucket = context.aws.bucket(name)
    ours = Throttled(context.still_ours, seconds=context.pace.ownership_check)

    def purge_one(key: str) -> int:
        ours()
        if absent and bucket.get(key):
            return 0
        entry = known.get(key) or {}
        proven = entry["version"] if proves(entry) else None
        return bucket.purge(key, lambda version: ownership.kept(context, bucket, version, proven))

    try:
        for key, found in in_parallel(purge_one, keys):
            versions += found
            if found:
                context.line(f"deleted s3://{name}/{key}")
    except AwsError as error:
        if error.code != "NoSuchBucket":
            raise
        context.line(f"the bucket {name} is gone already")
    return versions
