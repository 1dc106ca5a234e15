"""Where a build takes layers from: a job's daemon is empty, so the deployed image is its cache.

A cache that cannot be used costs time and nothing else, so no problem with it is an error.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from cipipe.errors import CipipeError
from cipipe.model import Mode
from cipipe.stages.context import StageContext
from cipipe.stages.image.publishing import deployed_image, registry_of
from cipipe.stages.image.settings import ImageSettings
from cipipe.stages.settings import Reference

if TYPE_CHECKING:
    from cipipe.tools.registry.client import Registry


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """What a build may read, and where it writes."""

    # Images in registries, as REPOSITORY@DIGEST or REPOSITORY:TAG.
    read: tuple[str, ...] = ()
    # Older ones, for layers that the deployed image took from a cache itself.
    # They are read without being pulled, which only BuildKit can.
    older: tuple[str, ...] = ()
    # A repository's tag that all layers are written to.
    write: str | None = None
    # Logins for both.
    registries: tuple["Registry", ...] = ()


def cache(context: StageContext[ImageSettings]) -> Cache:
    """The cache of a stage's build."""
    settings = context.stage.settings
    if settings.cache == "off":
        return Cache()
    found = dict(_images(context))
    registries: dict[str, Registry] = {}
    usable = []
    for reference, repository in found.items():
        registry = registries.get(repository) or _login(context, repository)
        if registry is not None:
            registries[repository] = registry
            usable.append(reference)

    write = _cache_image(settings)
    if context.mode is not Mode.DEPLOY or write not in usable:
        write = None
    deployed = deployed_image(context)
    older: tuple[str, ...] = ()
    if deployed is not None and deployed.repository in registries:
        newest_first = reversed(deployed.layers_from)
        older = tuple(f"{deployed.repository}@{digest}" for digest in newest_first)
    return Cache(
        read=tuple(usable), older=older, write=write, registries=tuple(registries.values())
    )


def _images(context: StageContext[ImageSettings]) -> Iterator[tuple[str, str]]:
    """Images, each with its repository."""
    image = _cache_image(context.stage.settings)
    if image is not None:
        yield image, image.rpartition(":")[0]
    deployed = deployed_image(context)
    if deployed is not None:
        yield f"{deployed.repository}@{deployed.digest}", deployed.repository


def _cache_image(settings: ImageSettings) -> str | None:
    image = settings.cache_image
    # In verify mode, an output may not be known yet.
    return None if image is None or isinstance(image, Reference) else image


def _login(context: StageContext[ImageSettings], repository: str) -> "Registry | None":
    try:
        return registry_of(context, repository)
    except CipipeError as error:
        context.line(f"no cache from {repository}: {error.message}")
        return None
