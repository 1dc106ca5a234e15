"""Which images have to stay, so that every rollback that is offered works. Pure.

A generation is what was deployed from one moment to the next: an image, and the DAGs that run
it. A prune decides how far back rollbacks are offered, and keeps the image of every generation
that is.
"""

import bisect
from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from cipipe.stages.image.settings import Keep


class DeployedImage(msgspec.Struct, frozen=True):
    """An image that was deployed, from a version of the stage's record."""

    # When it was deployed; it ran until the next one was.
    since: datetime
    tag: str
    digest: str


class Generation(msgspec.Struct, frozen=True):
    """DAGs that were deployed, and when the image was deployed that they run.

    The two differ after a rollback, which brings back DAGs of an earlier time.
    """

    at: datetime
    image_of: datetime


class Retention(msgspec.Struct, frozen=True):
    """What a prune keeps."""

    # Rollbacks to what was deployed before are no longer offered. None:
    # everything is offered that the ledger knows.
    offered_since: datetime | None
    images: tuple[DeployedImage, ...]


def retention(
    images: Iterable[DeployedImage],
    generations: Iterable[Generation],
    *,
    keep: Keep,
    now: datetime,
    already: datetime | None,
) -> Retention:
    """Decide what stays.

    `images` are all that the ledger knows, `generations` the deployments
    that can be gone back to, `already` is what an earlier prune decided:
    rollbacks to before that are not offered again.
    """
    deployed = sorted(images, key=lambda image: image.since)
    all_generations = list(generations)
    moments = sorted({*(one.at for one in all_generations), *(image.since for image in deployed)})
    since = _limit(moments, keep, now)
    if already is not None:
        since = already if since is None else max(since, already)
    if since is None:
        return Retention(None, tuple(deployed))

    # What ran at the limit, what came later, and what later DAGs went back
    # to.
    needed = {since, *(one.image_of for one in all_generations if one.at >= since)}
    ran = {_running_at(deployed, moment) for moment in needed}
    return Retention(
        since, tuple(image for image in deployed if image.since >= since or image in ran)
    )


def _running_at(deployed: list[DeployedImage], moment: datetime) -> DeployedImage | None:
    before = bisect.bisect_right(deployed, moment, key=lambda image: image.since)
    return deployed[before - 1] if before else None


def _limit(moments: list[datetime], keep: Keep, now: datetime) -> datetime | None:
    if len(moments) <= keep.count:
        return None
    return min(moments[-keep.count], now - timedelta(days=keep.days))
