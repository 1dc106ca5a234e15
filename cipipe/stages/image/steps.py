"""The steps of an `image` stage: look for the content's tag, build, try the image, push it."""

import posixpath
import re
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cipipe.errors import RefusedError, StageError
from cipipe.model import FINGERPRINT_TAG_LENGTH, Effect, Mode
from cipipe.stages.context import StageContext, StageResult, Step
from cipipe.stages.image.settings import CONTENT_TAG, ImageSettings
from cipipe.stages.paths import repository_path
from cipipe.stages.settings import Reference, Stage, literal, shown

if TYPE_CHECKING:
    from cipipe.stages.image.build_context import BuildContext
    from cipipe.tools.docker.buildkit import Build
    from cipipe.tools.docker.client import Docker
    from cipipe.tools.registry import Registry

_MAX_SHOWN = 10


class ImageData(msgspec.Struct, frozen=True):
    """`data` in the record of an `image` stage."""

    repository: str
    tag: str
    digest: str


def steps(stage: Stage[ImageSettings], mode: Mode, *, tag: str) -> tuple[Step, ...]:
    settings = stage.settings
    run = _ImageRun()
    name = shown(settings.repository)
    if mode is Mode.DESTROY:
        return (
            Step(f"list the images in {name}", Effect.READ, run.list),
            Step(f"delete the images that cipipe pushed to {name}", Effect.DESTROY, run.delete),
        )

    # Building changes nothing outside this machine: a merge request does it
    # too.
    build = [Step(f"docker build {settings.context}/ as {name}:{tag}", Effect.READ, run.build)]
    if settings.smoke:
        build.append(Step(f"run `{' '.join(settings.smoke)}` in it", Effect.READ, run.smoke))
    if mode is Mode.VERIFY:
        return tuple(build)

    retag = [
        Step(f"tag it {name}:{extra}", Effect.WRITE, partial(run.retag, extra))
        for extra in settings.tags
    ]
    return (
        Step(f"look for {name}:{tag}; nothing is built if it exists", Effect.READ, run.look),
        *build,
        Step(f"docker push {name}:{tag}", Effect.WRITE, run.push),
        *retag,
    )


class _ImageRun:
    """What the steps of one run share."""

    def __init__(self) -> None:
        # The digest of the image in the registry; None while it is not
        # there.
        self._digest: str | None = None
        # The tags that a destroy deletes.
        self._own: list[str] = []

    def look(self, context: StageContext[ImageSettings], _: StageResult) -> None:
        tag = _tag(context)
        self._digest = _registry(context).digest(tag)
        if self._digest:
            context.line(f"{tag} exists already as {self._digest}: nothing to build")

    def build(self, context: StageContext[ImageSettings], result: StageResult) -> None:
        if self._digest:
            return
        from cipipe.stages.image.build_context import build_context

        source = build_context(context)
        wanted = _wanted(context)
        command = _buildkit(context, source)
        daemon = _daemon(context)
        daemon.wait(context.stage.settings.daemon_timeout)
        if command is None:
            daemon.build(source.tar(), wanted)
        else:
            _build_with_buildkit(context, command, source=source, wanted=wanted)
        result.summary = f"built {_name(context)}"

    def smoke(self, context: StageContext[ImageSettings], _: StageResult) -> None:
        if not self._digest:
            _daemon(context).run(_name(context), context.stage.settings.smoke)

    def push(self, context: StageContext[ImageSettings], result: StageResult) -> None:
        registry = _registry(context)
        tag = _tag(context)
        existed = self._digest is not None
        if self._digest is None:
            self._digest = _daemon(context).push(
                registry.repository, tag, username=registry.username, password=registry.password
            )
        result.keep(ImageData(registry.repository, tag, self._digest))
        result.summary = f"{registry.repository}:{tag}" + (" (existed)" if existed else "")

    def retag(self, extra: str, context: StageContext[ImageSettings], _: StageResult) -> None:
        _registry(context).retag(self._digest or "", extra)

    def list(self, context: StageContext[ImageSettings], _: StageResult) -> None:
        tags = _registry(context).tags()
        extra = context.stage.settings.tags
        self._own = [tag for tag in tags if re.fullmatch(CONTENT_TAG, tag) or tag in extra]
        foreign = sorted(set(tags) - set(self._own))
        if foreign:
            raise RefusedError(
                "destroy-foreign-images",
                "the repository has images that cipipe did not push: "
                f"{', '.join(foreign[:_MAX_SHOWN])}",
                hint="Delete or move them first. Nothing was deleted.",
                where=context.stage.name,
            )
        context.line(f"{len(self._own)} images")

    def delete(self, context: StageContext[ImageSettings], result: StageResult) -> None:
        if self._own:
            _registry(context).delete(self._own)
        result.summary = f"{len(self._own)} images deleted"


def _wanted(context: StageContext[ImageSettings]) -> "Build":
    from cipipe.tools.docker import buildkit

    settings = context.stage.settings
    # The commit's time and not today's: the same commit gives the same
    # image.
    created = datetime.fromtimestamp(context.commit_time, UTC)
    return buildkit.Build(
        dockerfile=settings.dockerfile,
        tag=_name(context),
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


def _registry(context: StageContext[ImageSettings]) -> "Registry":
    from cipipe.tools import registry

    return registry.login(context.aws, literal(context.stage.settings.repository), context.redactor)


def _daemon(context: StageContext[ImageSettings]) -> "Docker":
    from cipipe.tools.docker import client as docker

    return docker.Docker(
        env=context.child_env,
        redactor=context.redactor,
        line=context.line,
        interrupt=context.interrupt,
    )


def _name(context: StageContext[ImageSettings]) -> str:
    """The image's name on this machine. Where the repository is not known
    yet, in a merge request, it gets a local one.
    """
    setting = context.stage.settings.repository
    unknown = isinstance(setting, Reference)
    repository = f"cipipe/{context.stage.name}" if unknown else str(setting)
    return f"{repository}:{_tag(context)}"


def _tag(context: StageContext[ImageSettings]) -> str:
    return context.fingerprint[:FINGERPRINT_TAG_LENGTH]
