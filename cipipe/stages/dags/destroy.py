"""Delete what the stage owns; a destroy deletes all versions, so that the
bucket can go too.

What others put there stays.
"""

from collections.abc import Iterable

from cipipe.results import Loss
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.dags.bucket import manifest, ownership, sharing
from cipipe.stages.dags.bucket.objects import bucket_of, current_objects, proves
from cipipe.stages.dags.bucket.parallel import Throttled, in_parallel
from cipipe.stages.dags.files import count
from cipipe.stages.dags.settings import Settings
from cipipe.tools.aws.errors import AwsError


def list_owned(context: StageContext[Settings], result: StageResult) -> None:
    """Print what will be deleted. Raises RefusedError where some of it belongs to others."""
    places = _places(context, result)
    for name, keys in places.items():
        _refuse_foreign(context, result, name, keys=keys)
        for key in keys:
            context.line(f"s3://{name}/{key}")
        if keys:
            lost = Loss(sort="object", name=f"s3://{name}", count=len(keys))
            result.preflight.lost.append(lost)
    objects = count(sum(map(len, places.values())), "object")
    context.line(f"{objects} to delete; what others put there stays")


def purge(context: StageContext[Settings], result: StageResult) -> None:
    """Delete every version of what the stage owns, and of what it owned and has deleted."""
    places = _places(context, result)
    versions = sum(purge_keys(context, result, name, keys=keys) for name, keys in places.items())
    deleted = result.data.get("deleted")
    if deleted:
        bucket = result.data["bucket"]
        versions += purge_keys(context, result, bucket, keys=deleted, absent=True)

    result.data |= {"manifest": {}, "deleted": [], "former": {}}
    objects = count(sum(map(len, places.values())), "object")
    result.summary = f"{objects} deleted, with {count(versions, 'version')}"


def delete_keys(context: StageContext[Settings], result: StageResult, keys: Iterable[str]) -> None:
    """Delete the objects of some keys of the stage's bucket, which keeps
    their older versions.

    Raises ConflictError where a later run took over the stage.
    """
    bucket = bucket_of(context)
    check_ours = Throttled(context.still_ours, seconds=context.pace.ownership_check)
    check_ours()
    for key in keys:
        check_ours()
        # Recorded first: a destroy has to find the older versions.
        result.data["deleted"] = sorted({*result.data["deleted"], key})
        bucket.delete(key)
        del result.data["manifest"][key]
        context.line(f"deleted {key}")


def purge_keys(
    context: StageContext[Settings],
    result: StageResult,
    name: str,
    keys: list[str],
    *,
    absent: bool = False,
) -> int:
    """Delete every version of some keys, and return how many there were.

    The bucket may not exist any more. `absent`: only of keys without an
    object; one that is there again was put there by others. Raises
    ConflictError where a later run took over the stage.
    """
    versions = 0
    known = manifest.entries(result.data, name)
    bucket = context.aws.bucket(name)
    check_ours = Throttled(context.still_ours, seconds=context.pace.ownership_check)

    def purge_one(key: str) -> int:
        check_ours()
        if absent and bucket.get(key):
            return 0
        entry = known.get(key) or {}
        proven = entry["version"] if proves(entry) else None
        # Others may have written to the key before or after us: their
        # versions are kept.
        return bucket.purge(
            key,
            lambda version: ownership.belongs_to_others(context, bucket, version, proven=proven),
        )

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


def _places(context: StageContext[Settings], result: StageResult) -> dict[str, list[str]]:
    """The keys that the stage owns alone, by bucket."""
    return sharing.ours(context, manifest.places(result.data, context.stage.settings.bucket))


def _refuse_foreign(
    context: StageContext[Settings], result: StageResult, name: str, keys: list[str]
) -> None:
    """Raise RefusedError where a key of the record belongs to others by now."""
    try:
        present = current_objects(
            context.aws.bucket(name),
            keys,
            known=manifest.entries(result.data, name),
            prefix=context.stage.settings.prefix,
        )
    except AwsError as error:
        if error.code != "NoSuchBucket":
            raise
        return
    ownership.refuse_foreign(context, name, present)
