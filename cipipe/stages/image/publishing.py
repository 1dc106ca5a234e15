"""The image in its registry: whether it is there, push it, give it more tags."""

from typing import TYPE_CHECKING

import msgspec

from cipipe.stages.context import StageContext
from cipipe.stages.image.daemon import daemon
from cipipe.stages.image.names import content_tag
from cipipe.stages.image.settings import ImageSettings
from cipipe.stages.settings import literal

if TYPE_CHECKING:
    from cipipe.tools.registry import Registry


class ImageData(msgspec.Struct, frozen=True):
    """`data` in the record of an `image` stage."""

    repository: str
    tag: str
    digest: str


def registry(context: StageContext[ImageSettings]) -> "Registry":
    """The stage's repository, with a login. Raises StageError."""
    from cipipe.tools import registry as client

    return client.login(context.aws, literal(context.stage.settings.repository), context.redactor)


def deployed_digest(context: StageContext[ImageSettings]) -> str | None:
    """The digest of the content's tag in the registry; None while it is not there."""
    tag = content_tag(context)
    digest = registry(context).digest(tag)
    if digest:
        context.line(f"{tag} exists already as {digest}: nothing to build")
    return digest


def push(context: StageContext[ImageSettings], existing: str | None) -> ImageData:
    """Push the image unless it is in the registry as `existing`. Raises StageError."""
    target = registry(context)
    tag = content_tag(context)
    digest = existing or daemon(context).push(
        target.repository, tag, username=target.username, password=target.password
    )
    return ImageData(target.repository, tag, digest)


def retag(context: StageContext[ImageSettings], digest: str, extra: str) -> None:
    """Point another tag at the image."""
    registry(context).retag(digest, extra)
