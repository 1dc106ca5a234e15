"""Several `dags` stages in one bucket: every key belongs to exactly one of
them.

A key that another stage's record names is neither written nor deleted. What
the configuration alone shows is refused earlier, by `clashes`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from cipipe.errors import RefusedError
from cipipe.model import Mode
from cipipe.stages.context import StageContext
from cipipe.stages.dags.bucket import manifest
from cipipe.stages.dags.settings import Settings


def taken(context: StageContext[Settings], bucket: str) -> dict[str, str]:
    """The keys of that bucket that other stages own, each with the stage's
    name.

    Keys that they have deleted are free.
    """
    return {
        key: name
        for name, data in sorted(context.beside().items())
        for key in manifest.places(data, bucket).get(bucket, ())
    }


def refuse_taken(context: StageContext[Settings], bucket: str, wanted: Iterable[str]) -> None:
    """Raise RefusedError (`dags-key-taken`) where another stage owns a key
    to be written.

    In verify mode that is a warning: the change may be one that moves the
    file.
    """
    others = taken(context, bucket)
    found = sorted(others.keys() & set(wanted))
    if not found:
        return

    first = found[0]
    owner = others[first]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    message = (
        f"{first}{more} belongs to stage {owner},"
        " which would delete it once it is not in its source any more"
    )
    if context.mode is Mode.VERIFY:
        context.line(f"warning: {message}")
        return
    raise RefusedError(
        "dags-key-taken",
        message,
        hint="Rename the file, or give the stages other prefixes."
        f" If it moves from {owner} to {context.stage.name}, run again"
        f" once {owner} is deployed without it.",
        where=f"s3://{bucket}/{first}",
    )


def ours(context: StageContext[Settings], places: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Keys by bucket, without those that another stage owns too."""
    return {
        name: list(without_taken(context, name, dict.fromkeys(keys)))
        for name, keys in places.items()
    }


def without_taken(
    context: StageContext[Settings], bucket: str, owned: Mapping[str, Any]
) -> dict[str, Any]:
    """The manifest's entries of one bucket, without those that another stage owns too."""
    others = taken(context, bucket)
    return {key: entry for key, entry in owned.items() if key not in others}
