"""The `image` kind: one image per content. Its tag is the fingerprint's first 20 hex digits, so
the same content has the same tag in every environment and Terraform can name it before it exists.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cipipe.errors import Problem, RefusedError, StageError
from cipipe.model import FINGERPRINT_TAG_LENGTH, Effect, Environment, Mode
from cipipe.stages.base import (
    MOST_READ,
    Input,
    Needed,
    Reference,
    Resource,
    ResourceType,
    Setting,
    Stage,
    StageContext,
    StageResult,
    Step,
    consumes_nothing,
    literal,
    outside,
    owns_nothing,
    repository_path,
    shown,
)
from cipipe.stages.base import Settings as BaseSettings
from cipipe.tools.git.client import Repository

if TYPE_CHECKING:
    from cipipe.stages.image_context import BuildContext
    from cipipe.tools import registry
    from cipipe.tools.docker import client as docker

NAME = "image"

PATHS = ("context", "dockerfile")

consumes, owns = consumes_nothing, owns_nothing

_OWN_TAG = rf"[0-9a-f]{{{FINGERPRINT_TAG_LENGTH}}}"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"


class Settings(BaseSettings, frozen=True):
    """`context` is a folder of the repository, `repository` the ECR repository's URL, `smoke` a
    command that has to succeed in the image before it is pushed, `tags` extra tags, `network` the
    build's network, `daemon_timeout` the seconds to wait for the Docker daemon.
    """

    context: str
    repository: Setting
    dockerfile: str = "Dockerfile"
    build_args: dict[str, Setting] = {}
    smoke: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    platform: str | None = None
    network: Setting | None = None
    daemon_timeout: int = 60


def problems(stage: Stage[Settings]) -> Iterable[Problem]:
    settings = stage.settings
    yield from outside(settings.context, "context")
    yield from outside(settings.dockerfile, "dockerfile")
    for number, tag in enumerate(settings.tags):
        if not re.fullmatch(_TAG, tag):
            yield Problem("config-bad-tag", f"{tag!r} is not a valid image tag", f"tags[{number}]")
        elif re.fullmatch(_OWN_TAG, tag):
            yield Problem(
                "config-bad-tag",
                f"{tag!r} looks like a content tag, which cipipe makes",
                f"tags[{number}]",
            )


def resources(stage: Stage[Settings], environment: Environment) -> Iterator[Resource]:  # noqa: ARG001 - its name has the account
    repository = stage.settings.repository
    if isinstance(repository, str):
        hint = "Give each environment its own, such as …/{project}-{environment}."
        yield Resource(
            type=ResourceType.REPOSITORY,
            name=repository,
            shown=repository,
            key="repository",
            hint=hint,
        )


def needed(stage: Stage[Settings]) -> Iterator[Needed]:
    settings = stage.settings
    context = repository_path(settings.context)
    yield Needed(key="context", path=context, folder=True)
    yield Needed(key="dockerfile", path=repository_path(context, settings.dockerfile))


def tools(stage: Stage[Settings]) -> tuple[str, ...]:  # noqa: ARG001
    return ("docker", "registry")


def inputs(stage: Stage[Settings], repository: Repository, tree: str) -> Iterator[Input]:
    """The Dockerfile, the ignore files, and what the Dockerfile copies from the context.

    Where there is an ignore file it is not told what of a folder goes into the image.
    """
    settings = stage.settings
    context = repository_path(settings.context)
    dockerfile = repository_path(context, settings.dockerfile)
    ignore = (f"{dockerfile}.dockerignore", repository_path(context, ".dockerignore"))
    yield Input(context, "context", some=True)
    yield Input(dockerfile, "dockerfile")
    yield from (Input(path, "context") for path in ignore)
    here = {
        entry.path.decode(errors="surrogateescape"): entry
        for entry in repository.listing(tree, context)
    }
    if posixpath.dirname(dockerfile) != context:
        listed = repository.listing(tree, posixpath.dirname(dockerfile))
        here |= {entry.path.decode(errors="surrogateescape"): entry for entry in listed}
    file = here.get(dockerfile)
    given = {
        name: value if isinstance(value, str) else None
        for name, value in settings.build_args.items()
    }
    for body in repository.blobs([file] if file is not None and file.is_blob else []).values():
        from cipipe.stages.dockerfile import split_wildcards, taken

        for line, source, exclude in taken(body, given) if len(body) <= MOST_READ else ():
            path, wild = split_wildcards(source)
            told = f"{dockerfile}:{line}"
            some = not here.keys().isdisjoint(ignore)
            yield Input(repository_path(context, path), told, some=some, wild=wild, exclude=exclude)


def steps(stage: Stage[Settings], mode: Mode, *, tag: str) -> tuple[Step, ...]:
    settings = stage.settings
    job = _Job()
    name = shown(settings.repository)
    build = Step(f"docker build {settings.context}/ as {name}:{tag}", Effect.READ, job.build)
    smoke = Step(f"run `{' '.join(settings.smoke)}` in it", Effect.READ, job.smoke)
    if mode is Mode.VERIFY:
        return (build, *([smoke] if settings.smoke else []))
    if mode is Mode.DESTROY:
        return (
            Step(f"list the images in {name}", Effect.READ, job.list),
            Step(f"delete the images that cipipe pushed to {name}", Effect.DESTROY, job.delete),
        )
    return (
        Step(f"look for {name}:{tag}; if it is there, nothing is built", Effect.READ, job.look),
        build,
        *([smoke] if settings.smoke else []),
        Step(f"docker push {name}:{tag}", Effect.WRITE, job.push),
        *(
            Step(f"tag it {name}:{extra}", Effect.WRITE, partial(job.retag, extra))
            for extra in settings.tags
        ),
    )


class _Job:
    """What one run of the stage carries from step to step."""

    def __init__(self) -> None:
        self._digest: str | None = None
        self._own: list[str] = []

    def look(self, context: StageContext[Settings], _: StageResult) -> None:
        self._digest = self._registry(context).digest(_tag(context))
        if self._digest:
            context.line(f"{_tag(context)} is there already as {self._digest}: nothing to build")

    def build(self, context: StageContext[Settings], result: StageResult) -> None:
        if self._digest:
            return
        from cipipe.stages.image_context import build_context
        from cipipe.tools.docker import buildkit

        settings = context.stage.settings
        source = build_context(context)
        wanted = buildkit.Build(
            dockerfile=settings.dockerfile,
            tag=self._name(context),
            build_args={name: literal(value) for name, value in settings.build_args.items()},
            labels={
                "org.opencontainers.image.revision": context.commit,
                "org.opencontainers.image.created": datetime.fromtimestamp(
                    context.commit_time, UTC
                ).isoformat(),
                "org.opencontainers.image.title": context.project,
                "io.cipipe.fingerprint": context.fingerprint,
            },
            platform=settings.platform,
            network=None if settings.network is None else literal(settings.network),
            created=context.commit_time,
        )
        argv = _buildkit(context, source)
        daemon = self._daemon(context)
        daemon.wait(settings.daemon_timeout)
        if argv is None:
            daemon.build(source.tar(), wanted)
        else:
            import shutil
            import tempfile

            folder = Path(tempfile.mkdtemp(prefix="context-", dir=context.scratch))
            source.write(folder)
            buildkit.build(
                argv,
                folder,
                wanted,
                env=context.child_env,
                line=context.line,
                redactor=context.redactor,
                interrupt=context.interrupt,
            )
            shutil.rmtree(folder)
        result.summary = f"built {self._name(context)}"

    def smoke(self, context: StageContext[Settings], _: StageResult) -> None:
        if not self._digest:
            self._daemon(context).run(self._name(context), context.stage.settings.smoke)

    def push(self, context: StageContext[Settings], result: StageResult) -> None:
        found = self._registry(context)
        existed = self._digest is not None
        if self._digest is None:
            daemon = self._daemon(context)
            login = {"username": found.username, "password": found.password}
            self._digest = daemon.push(found.repository, _tag(context), **login)
        result.data = {"repository": found.repository, "tag": _tag(context), "digest": self._digest}
        result.summary = f"{found.repository}:{_tag(context)}" + (" (was there)" if existed else "")

    def retag(self, extra: str, context: StageContext[Settings], _: StageResult) -> None:
        self._registry(context).retag(self._digest or "", extra)

    def list(self, context: StageContext[Settings], _: StageResult) -> None:
        tags = self._registry(context).tags()
        known = set(context.stage.settings.tags)
        self._own = [tag for tag in tags if re.fullmatch(_OWN_TAG, tag) or tag in known]
        foreign = sorted(set(tags) - set(self._own))
        if foreign:
            raise RefusedError(
                "destroy-foreign-images",
                f"the repository holds images that cipipe did not push: {', '.join(foreign[:10])}",
                hint="Delete or move them first. Nothing was deleted.",
                where=context.stage.name,
            )
        context.line(f"{len(self._own)} images")

    def delete(self, context: StageContext[Settings], result: StageResult) -> None:
        if self._own:
            self._registry(context).delete(self._own)
        result.summary = f"{len(self._own)} images deleted"

    def _registry(self, context: StageContext[Settings]) -> "registry.Registry":
        from cipipe.tools import registry

        return registry.login(
            context.aws, literal(context.stage.settings.repository), context.redactor
        )

    def _daemon(self, context: StageContext[Settings]) -> "docker.Docker":
        from cipipe.tools.docker import client as docker

        return docker.Docker(context.child_env, context.redactor, context.line, context.interrupt)

    def _name(self, context: StageContext[Settings]) -> str:
        return f"{_repository_or_local(context)}:{_tag(context)}"


def _buildkit(context: StageContext[Settings], source: "BuildContext") -> tuple[str, ...] | None:
    """The command that builds with BuildKit, where the Dockerfile needs it. Raises StageError
    where there is none.
    """
    from cipipe.stages.dockerfile import needs_buildkit
    from cipipe.tools.docker import buildkit

    name = posixpath.normpath(context.stage.settings.dockerfile)
    needed = needs_buildkit(source.files[name].body) if name in source.files else None
    if needed is None:
        return None
    argv = buildkit.command(context.child_env)
    if argv is None:
        line, what = needed
        raise StageError(
            "docker-buildkit-missing",
            f"{name} uses {what}, which needs BuildKit, and no docker command here has it",
            hint="Install the docker command with its plugin buildx in the job (Docker's docker-ce-cli and "
            "docker-buildx-plugin; Alpine's docker-cli and docker-cli-buildx).",
            where=f"{repository_path(context.stage.settings.context, name)}:{line}",
        )
    return argv


def _repository_or_local(context: StageContext[Settings]) -> str:
    """In verify mode the outputs may not be known; the image gets a local name then."""
    setting = context.stage.settings.repository
    return f"cipipe/{context.stage.name}" if isinstance(setting, Reference) else str(setting)


def _tag(context: StageContext[Settings]) -> str:
    return context.fingerprint[:FINGERPRINT_TAG_LENGTH]
