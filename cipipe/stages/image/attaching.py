"""Attaches the list of its components to an image in the registry."""

from datetime import UTC, datetime

from cipipe.stages.context import StageContext
from cipipe.stages.image.daemon import daemon
from cipipe.stages.image.names import local_name
from cipipe.stages.image.publishing import registry
from cipipe.stages.image.settings import ImageSettings

MEDIA_TYPE = "application/vnd.cyclonedx+json"


def attach_components(context: StageContext[ImageSettings], digest: str, *, built: bool) -> str:
    """Attach the list unless the image has one. Returns what was done.

    `built`: the image is on this machine. Raises StageError.
    """
    from cipipe.stages.image import evidence
    from cipipe.tools.registry.attach import attach, is_attached

    target = registry(context)
    if is_attached(target, digest, MEDIA_TYPE):
        return f"{digest} has the list of its components already"

    docker = daemon(context)
    image = local_name(context)
    if not built:
        docker.wait(context.stage.settings.daemon_timeout)
        image = f"{target.repository}@{digest}"
        docker.pull(image, username=target.username, password=target.password)
    with docker.exported(image) as archive:
        found = evidence.components(archive)
    about = evidence.ImageOfList(
        name=context.project,
        digest=digest,
        created=datetime.fromtimestamp(context.commit_time, UTC),
    )
    attach(target, digest, MEDIA_TYPE, evidence.document(about, found))
    return f"attached the list of {len(found)} components to {digest}"
