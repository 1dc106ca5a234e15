"""Destroys a stage's images: those with a content tag, and those with the stage's extra tags.

What others pushed to the repository stays.
"""

import re

from cipipe.results import Loss, Preflight
from cipipe.stages.context import StageContext
from cipipe.stages.image.publishing import registry
from cipipe.stages.image.settings import CONTENT_TAG, ImageSettings

# Content tags, and those of what is attached to an image.
_OWN = re.compile(rf"{CONTENT_TAG}|sha256-[0-9a-f]{{64}}")


def own_tags(context: StageContext[ImageSettings], preflight: Preflight) -> list[str]:
    """The tags that a destroy deletes."""
    repository = registry(context)
    tags = repository.tags()
    extra = context.stage.settings.tags
    own = [tag for tag in tags if _OWN.fullmatch(tag) or tag in extra]
    if own:
        preflight.lost.append(Loss(sort="image", name=repository.repository, count=len(own)))
    preflight.removes |= {f"{repository.repository}:{tag}" for tag in own}
    others = len(tags) - len(own)
    stays = f"; {others} of others stay" if others else ""
    context.line(f"{len(own)} tags to delete{stays}")
    return own


def delete(context: StageContext[ImageSettings], tags: list[str]) -> None:
    if tags:
        registry(context).delete(tags)
