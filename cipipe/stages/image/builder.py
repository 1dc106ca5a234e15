"""Builds the image: the context from the commit, by BuildKit or by Docker's classic builder."""

import posixpath
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cipipe.errors import StageError
from cipipe.stages.context import StageContext
from cipipe.stages.image.names import local_name
from cipipe.stages.image.settings import ImageSettings
from cipipe.stages.paths import repository_path
from cipipe.stages.settings import literal

if TYPE_CHECKING:
    from cipipe.stages.image.build_context import BuildContext
    from cipipe.tools.docker.buildkit import Build
    from cipipe.tools.docker.client import Docker


def build(context: StageContext[ImageSettings]) -> None:
    """Build the image as `local_name`. Raises ProblemsError, StageError, UsageError."""
    from cipipe.stages.image.build_context import build_context

    source = build_context(context)
    wanted = _wanted(context)
    command = _buildkit(context, source)
    docker = daemon(context)
    docker.wait(context.stage.settings.daemon_timeout)
    if command is None:
        docker.build(source.tar(), wanted)
    else:
        _build_with_buildkit(context, command, source=source, wanted=wanted)


def daemon(context: StageContext[ImageSettings]) -> "Docker":
    """The Docker daemon of the job."""
    from cipipe.tools.docker import client as docker

    return docker.Docker(
        env=context.child_env,
        redactor=context.redactor,
        line=context.line,
        interrupt=context.interrupt,
    )


def _wanted(context: StageContext[ImageSettings]) -> "Build":
    from cipipe.tools.docker import buildkit

    settings = context.stage.settings
    # The commit's time and not today's: the same commit gives the same
    # image.
    created = datetime.fromtimestamp(context.commit_time, UTC)
    return buildkit.Build(
        dockerfile=settings.dockerfile,
        tag=local_name(context),
        build_args={name: literal(value) for name, value in settings.build_args.items()},
        labels={
            "org.opencontainers.image.revision": context.commit,
            "org.opencontainers.image.created": created.isoformat(),
            "org.opencontainers.image.title": context.project,
            "io.cipipe.fingerprint": context.fingerprint,
        },
        platform=settings.platform,
        network=None if settings.network is None else literal(settings.network),
        created=context.commit_time,
    )


def _buildkit(
    context: StageContext[ImageSettings], source: "BuildContext"
) -> tuple[str, ...] | None:
    """The command that builds with BuildKit, if the Dockerfile needs it.
    Raises StageError where it is not installed.
    """
    from cipipe.stages.image.dockerfile import needs_buildkit
    from cipipe.tools.docker import buildkit

    settings = context.stage.settings
    name = posixpath.normpath(settings.dockerfile)
    needed = needs_buildkit(source.files[name].body) if name in source.files else None
    if needed is None:
        return None
    command = buildkit.command(context.child_env)
    if command is None:
        line, what = needed
        raise StageError(
            "docker-buildkit-missing",
            f"{name} uses {what}, which needs BuildKit, and no docker command here has it",
            hint="Install the docker command with its plugin buildx in the job (Docker's "
            "docker-ce-cli and docker-buildx-plugin; Alpine's docker-cli and docker-cli-buildx).",
            where=f"{repository_path(settings.context, name)}:{line}",
        )
    return command


def _build_with_buildkit(
    context: StageContext[ImageSettings],
    command: tuple[str, ...],
    *,
    source: "BuildContext",
    wanted: "Build",
) -> None:
    import shutil
    import tempfile

    from cipipe.tools import process
    from cipipe.tools.docker import buildkit

    folder = Path(tempfile.mkdtemp(prefix="context-", dir=context.scratch))
    source.write(folder)
    buildkit.build(
        command,
        folder,
        wanted,
        env=context.child_env,
        line=context.line,
        watch=process.Watch(redactor=context.redactor, interrupt=context.interrupt),
    )
    shutil.rmtree(folder)
