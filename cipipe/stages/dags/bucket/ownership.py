"""Who owns the objects in a bucket: each says so in its S3 metadata
(project, environment, stage).

An object that says nothing is ours if our record names it: earlier versions
of cipipe wrote no owner. An object of another owner is neither overwritten
nor deleted, in none of its versions.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from cipipe.errors import RefusedError
from cipipe.model import Owner
from cipipe.stages.context import StageContext
from cipipe.stages.dags.bucket.parallel import in_parallel
from cipipe.stages.dags.settings import Settings

if TYPE_CHECKING:
    from cipipe.stages.dags.bucket.objects import CurrentObject
    from cipipe.tools.aws.s3 import Bucket, Version

# How many objects are asked for their owner before a stage first uploads to
# a folder. All of a folder's objects usually have one owner, and each costs
# a request.
_NEIGHBOURS = 64


def owner(context: StageContext[Settings]) -> Owner:
    return Owner(context.project, context.environment_name, context.stage.name)


def is_foreign(context: StageContext[Settings], text: str | None) -> bool:
    """Whether an object's owner, in its own words, is another than this
    stage.

    A stage that the environment no longer has was renamed or removed.
    Nobody else looks after its objects, so they are not foreign.
    """
    if text is None or text == owner(context).text:
        return False
    other = Owner.read(text)
    if other is None or not _same_environment(context, other):
        return True
    return other.stage in context.siblings


def foreign(
    context: StageContext[Settings], present: "Mapping[str, CurrentObject]"
) -> dict[str, str]:
    """The keys that belong to others, with what they say about their owner."""
    return {
        key: found.owner
        for key, found in sorted(present.items())
        if found.owner and is_foreign(context, found.owner)
    }


def refuse_foreign(
    context: StageContext[Settings], bucket: str, present: "Mapping[str, CurrentObject]"
) -> None:
    """Raise RefusedError (`dags-foreign-object`) where a key to be written belongs to others."""
    taken = foreign(context, present)
    if taken:
        raise _refusal(context, bucket, taken)


def refuse_neighbours(
    context: StageContext[Settings], bucket: "Bucket", keys: Iterable[str]
) -> None:
    """The same where other objects of the folder belong to another
    environment or project.

    Two environments in one folder would each delete what the other one
    adds. Stages of one environment may share a folder: their records keep
    them apart.
    """
    heads = dict(in_parallel(bucket.head, islice(sorted(keys), _NEIGHBOURS)))
    taken = {}
    for key, head in sorted(heads.items()):
        other = Owner.read(head.owner) if head is not None and head.owner else None
        if other is not None and not _same_environment(context, other):
            taken[key] = other.text
    if taken:
        raise _refusal(context, bucket.name, taken)


def belongs_to_others(
    context: StageContext[Settings], bucket: "Bucket", version: "Version", proven: str | None
) -> bool:
    """Whether a version has another owner. `proven` is the version in our record, which is ours."""
    if version.id == proven:
        return False
    # A bucket without versioning lists the id `null`, and does not accept
    # it in a request.
    unversioned = version.latest and version.id == "null"
    head = bucket.head(version.key, None if unversioned else version.id)
    return head is not None and is_foreign(context, head.owner)


def _same_environment(context: StageContext[Settings], other: Owner) -> bool:
    here = (context.project, context.environment_name)
    return (other.project, other.environment) == here


def _refusal(
    context: StageContext[Settings], bucket: str, taken: Mapping[str, str]
) -> RefusedError:
    key, text = next(iter(taken.items()))
    other = Owner.read(text)
    name = other.named if other is not None else repr(text)
    belongs = f" and {len(taken) - 1} more objects belong" if len(taken) > 1 else " belongs"
    return RefusedError(
        "dags-foreign-object",
        f"s3://{bucket}/{key}{belongs} to {name}; this is {owner(context).named}",
        hint=f"Give {context.environment_name} a bucket or prefix of its own."
        " If that owner no longer exists, delete its objects first.",
        where=f"s3://{bucket}/{key}",
    )
