"""Destroys a stage's images: those with a content tag, and those with the stage's extra tags."""

import re

from cipipe.errors import RefusedError
from cipipe.stages.context import StageContext
from cipipe.stages.image.publishing import registry
from cipipe.stages.image.settings import CONTENT_TAG, ImageSettings

_MAX_SHOWN = 10

# Content tags, and those of what is attached to an image.
_OWN = re.compile(rf"{CONTENT_TAG}|sha256-[0-9a-f]{{64}}")


def own_tags(context: StageContext[ImageSettings]) -> list[str]:
    """The tags that a destroy deletes. Raises RefusedError if the repository has others."""
    tags = registry(context).tags()
    extra = context.stage.settings.tags
    own = [tag for tag in tags if _OWN.fullmatch(tag) or tag in extra]
    foreign = sorted(set(tags) - set(own))
    if foreign:
        raise RefusedError(
            "destroy-foreign-images",
            "the repository has images that cipipe did not push: "
            f"{', '.join(foreign[:_MAX_SHOWN])}",
            hint="Delete or move them first. Nothing was deleted.",
            where=context.stage.name,
        )
    context.line(f"{len(own)} images")
    return own


def delete(context: StageContext[ImageSettings], tags: list[str]) -> None:
    if tags:
        registry(context).delete(tags)
