"""Whose the objects in a bucket are: each says so itself, in its S3 metadata, by project,
environment and stage.

An object that says nothing is ours if our record names it: earlier versions of cipipe wrote none.
What says that it is another's is neither overwritten nor deleted, in no version.
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

_NEIGHBOURS = 64
"""How many objects are asked whose they are, before a stage uploads to a folder for the first time."""


def owner(context: StageContext[Settings]) -> Owner:
    return Owner(context.project, context.environment_name, context.stage.name)


def is_foreign(context: StageContext[Settings], told: str | None) -> bool:
    """Whether what an object says of its owner is another than this stage.

    A stage that the environment does not have any more was renamed or taken out: nobody else looks
    after its objects.
    """
    if told is None or told == owner(context).text:
        return False
    other = Owner.read(told)
    here = other is not None and (other.project, other.environment) == (
        context.project,
        context.environment_name,
    )
    return not here or (other is not None and other.stage in context.siblings)


def foreign(
    context: StageContext[Settings], there: "Mapping[str, CurrentObject]"
) -> dict[str, str]:
    """The keys that are another's now, with what they say of their owner."""
    return {
        key: found.owner
        for key, found in sorted(there.items())
        if found.owner and is_foreign(context, found.owner)
    }


def refuse_foreign(
    context: StageContext[Settings], bucket: str, there: "Mapping[str, CurrentObject]"
) -> None:
    """Raise RefusedError (`dags-foreign-object`) where a key that is to be written is another's."""
    taken = foreign(context, there)
    if taken:
        raise refusal(context, bucket, taken)


def refuse_neighbours(
    context: StageContext[Settings], bucket: "Bucket", keys: Iterable[str]
) -> None:
    """The same where other objects of the folder are those of another environment or project.

    Stages of one environment may share a folder: their records keep them apart.
    """
    asked = dict(in_parallel(bucket.head, islice(sorted(keys), _NEIGHBOURS)))
    taken = {}
    for key, head in sorted(asked.items()):
        other = Owner.read(head.owner) if head is not None and head.owner else None
        if other is not None and (other.project, other.environment) != (
            context.project,
            context.environment_name,
        ):
            taken[key] = other.text
    if taken:
        raise refusal(context, bucket.name, taken)


def refusal(context: StageContext[Settings], bucket: str, taken: Mapping[str, str]) -> RefusedError:
    key, told = next(iter(taken.items()))
    other = Owner.read(told)
    whose = other.named if other is not None else repr(told)
    more = f" and {len(taken) - 1} more objects belong" if len(taken) > 1 else " belongs"
    return RefusedError(
        "dags-foreign-object",
        f"s3://{bucket}/{key}{more} to {whose}; this is {owner(context).named}",
        hint=f"Give {context.environment_name} a bucket or prefix of its own. If that owner no longer exists, delete its objects first.",
        where=f"s3://{bucket}/{key}",
    )


def kept(
    context: StageContext[Settings], bucket: "Bucket", version: "Version", proven: str | None
) -> bool:
    """Whether a version is another's. `proven`: the version that our record names, which is ours."""
    if version.id == proven:
        return False
    # A bucket without versions does not know the id that it lists.
    head = bucket.head(version.key, None if version.latest and version.id == "null" else version.id)
    return head is not None and is_foreign(context, head.owner)
