"""The Docker daemon of the job."""

from typing import TYPE_CHECKING

from cipipe.stages.context import StageContext
from cipipe.stages.image.settings import ImageSettings

if TYPE_CHECKING:
    from cipipe.tools.docker.client import Docker


def daemon(context: StageContext[ImageSettings]) -> "Docker":
    """The daemon's client. It connects when it is first used."""
    from cipipe.tools.docker import client as docker

    return docker.Docker(
        env=context.child_env,
        redactor=context.redactor,
        line=context.line,
        interrupt=context.interrupt,
    )
