"""Builds the image: the context from the commit, by BuildKit or by Docker's classic builder."""

import posixpath
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cipipe import terminal
from cipipe.errors import StageError, UsageError
from cipipe.stages.context import StageContext
from cipipe.stages.image.daemon import daemon
from cipipe.stages.image.names import local_name
from cipipe.stages.image.settings import ImageSettings
from cipipe.stages.paths import repository_path
from cipipe.stages.settings import literal

if TYPE_CHECKING:
    from cipipe.stages.image.build_context import BuildContext
    from cipipe.stages.image.cache import Cache
    from cipipe.tools.docker.buildkit import Build
    from cipipe.tools.docker.client import Docker


# Bytes of a context, and of one file in it, above which a build says what is large.
_LARGE_CONTEXT = 100_000_000
_LARGE_FILE = 50_000_000
_MAX_SHOWN = 3


def build(context: StageContext[ImageSettings], name: str | None = None) -> dict[str, str]:
    """Build the image under this name, or as `local_name`. Returns the
    digests of the images that it is built on, by their full names.

    Raises ProblemsError, StageError, UsageError.
    """
    from cipipe.stages.image.bases import digests
    from cipipe.stages.image.build_context import build_context
    from cipipe.stages.image.cache import cache
    from cipipe.stages.image.dockerfile import base_images

    source = build_context(context)
    _warn_of_size(context, source)
    command = _buildkit(context, source)
    docker = daemon(context)
    docker.wait(context.stage.settings.daemon_timeout)
    wanted = _wanted(context, source, name or local_name(context))
    found = cache(context)
    if command is None:
        _build_classically(docker, source, wanted=wanted, cache=found)
        named: dict[str, str] = {}
    else:
        with_buildkit = partial(
            _build_with_buildkit, context, command, source=source, wanted=wanted, cache=found
        )
        named = _with_some_frontend(context, with_buildkit)
    references = base_images(_dockerfile_body(source), wanted.build_args)
    return digests(context, docker, references, named)


def _with_some_frontend(
    context: StageContext[ImageSettings], build: Callable[..., dict[str, str]]
) -> dict[str, str]:
    """Build with the frontend that the Dockerfile names, or with the builder's own where that
    cannot be pulled.
    """
    from cipipe.tools.docker import buildkit

    try:
        return build()
    except buildkit.FrontendNotPulled as not_pulled:
        context.line(f"{not_pulled.hint} Building with the frontend that is part of the builder.")
        try:
            return build(own_frontend=True)
        except buildkit.FrontendTooOld:
            raise not_pulled from None


def _wanted(context: StageContext[ImageSettings], source: "BuildContext", name: str) -> "Build":
    from cipipe.stages.image.dockerfile import step_lines
    from cipipe.tools.docker import buildkit
    from cipipe.tools.docker.progress import StepName

    settings = context.stage.settings
    # The commit's time and not today's: the same commit gives the same
    # image.
    created = datetime.fromtimestamp(context.commit_time, UTC)
    path = repository_path(settings.context, _dockerfile(source))
    return buildkit.Build(
        dockerfile=settings.dockerfile,
        tag=name,
        build_args={name: literal(value) for name, value in settings.build_args.items()},
        labels={
            "org.opencontainers.image.revision": context.commit,
            "org.opencontainers.image.created": created.isoformat(),
            "org.opencontainers.image.title": context.project,
            "io.cipipe.fingerprint": context.fingerprint,
        },
        target=settings.target,
        secrets=_secrets(context),
        platform=settings.platform,
        network=None if settings.network is None else literal(settings.network),
        created=context.commit_time,
        inline_cache=settings.cache == "inline",
        lines={
            StepName(stage, number): f"{path}:{line}"
            for (stage, number), line in step_lines(_dockerfile_body(source)).items()
        },
    )


def _secrets(context: StageContext[ImageSettings]) -> dict[str, str]:
    """The values by id. Raises UsageError where a variable is not set."""
    found = {}
    for name, variable in context.stage.settings.secrets.items():
        value = context.child_env.get(variable)
        if not value:
            raise UsageError(
                "image-secret-missing",
                f"the secret {name} of the build comes from the environment variable {variable}, "
                "which is not set",
                hint=f"Set {variable} in the job, as a masked variable.",
                where=f"stages.{context.stage.name}.secrets.{name}",
            )
        context.redactor.register(value)
        found[name] = value
    return found


def _warn_of_size(context: StageContext[ImageSettings], source: "BuildContext") -> None:
    sizes = source.sizes()
    total = sum(sizes.values())
    large = sorted(sizes, key=lambda path: -sizes[path])[:_MAX_SHOWN]
    if not large or (total < _LARGE_CONTEXT and sizes[large[0]] < _LARGE_FILE):
        return
    listed = ", ".join(f"{terminal.visible(path)} ({_megabytes(sizes[path])})" for path in large)
    context.line(
        f"warning: the build context has {_megabytes(total)}; the largest files are {listed}. "
        f"Name what the image does not need in {context.stage.settings.context}/.dockerignore."
    )


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB"


def _dockerfile(source: "BuildContext") -> str:
    return posixpath.normpath(source.dockerfile)


def _dockerfile_body(source: "BuildContext") -> bytes:
    file = source.files.get(_dockerfile(source))
    return file.body if file else b""


def _what_needs_buildkit(source: "BuildContext") -> tuple[int, str] | None:
    from cipipe.stages.image.dockerfile import needs_buildkit

    return needs_buildkit(_dockerfile_body(source))


def _buildkit(
    context: StageContext[ImageSettings], source: "BuildContext"
) -> tuple[str, ...] | None:
    """The command that builds with BuildKit; None where none is installed.
    Raises StageError if the build needs it.
    """
    from cipipe.tools.docker import buildkit

    command = buildkit.command(context.child_env)
    if command is not None:
        return command

    settings = context.stage.settings
    name = _dockerfile(source)
    needed = _what_needs_buildkit(source)
    if needed is not None:
        line, what = needed
        message = f"{name} uses {what}, which needs BuildKit"
        where = f"{repository_path(settings.context, name)}:{line}"
    elif settings.secrets:
        message = "the build has secrets, which only BuildKit keeps out of the image"
        where = f"stages.{context.stage.name}.secrets"
    else:
        context.line("no docker command here has BuildKit: using Docker's classic builder")
        return None
    raise StageError(
        "docker-buildkit-missing",
        f"{message}, and no docker command here has it",
        hint="Install the docker command with its plugin buildx in the job (Docker's "
        "docker-ce-cli and docker-buildx-plugin; Alpine's docker-cli and docker-cli-buildx).",
        where=where,
    )


def _build_with_buildkit(
    context: StageContext[ImageSettings],
    command: tuple[str, ...],
    *,
    source: "BuildContext",
    wanted: "Build",
    cache: "Cache",
    own_frontend: bool = False,
) -> dict[str, str]:
    import tempfile

    import msgspec

    from cipipe.stages.image.dockerfile_syntax import without_frontend
    from cipipe.tools import process
    from cipipe.tools.docker import buildkit
    from cipipe.tools.docker.logins import Login, write_config

    if cache.write and "buildx" not in command:
        context.line("nothing is written to cache_image: that needs the docker plugin buildx")
    logins = tuple(
        Login(registry.host, registry.username, registry.password) for registry in cache.registries
    )
    with tempfile.TemporaryDirectory(prefix="build-", dir=context.scratch) as made:
        folder = Path(made, "context")
        folder.mkdir()
        source.write(folder)
        dockerfile = folder / wanted.dockerfile
        if own_frontend:
            # Outside the context, which stays as it is in the commit.
            dockerfile = Path(made, "Dockerfile")
            dockerfile.write_bytes(without_frontend(_dockerfile_body(source)))
            # The context has only what its own rules select.
            dockerfile.with_name("Dockerfile.dockerignore").touch()
        env = dict(context.child_env)
        if logins:
            config = Path(made, "docker")
            config.mkdir(mode=0o700)
            env["DOCKER_CONFIG"] = str(write_config(config, logins, env))
        return buildkit.build(
            command,
            folder,
            msgspec.structs.replace(
                wanted,
                dockerfile=str(dockerfile),
                cache_from=(*cache.read, *cache.older),
                cache_to=cache.write,
            ),
            env=env,
            line=context.line,
            watch=process.Watch(redactor=context.redactor, interrupt=context.interrupt),
        )


def _build_classically(
    docker: "Docker", source: "BuildContext", *, wanted: "Build", cache: "Cache"
) -> None:
    """Build with the classic builder, which takes layers from images of the daemon only."""
    import msgspec

    pulled = []
    by_repository = {registry.repository: registry for registry in cache.registries}
    for reference in cache.read:
        registry = by_repository.get(reference.partition("@")[0])
        if registry is None:
            continue
        try:
            docker.pull(reference, username=registry.username, password=registry.password)
        except StageError as error:
            docker.line(f"no cache from {reference}: {error.message}")
        else:
            pulled.append(reference)
    docker.build(source.tar(), msgspec.structs.replace(wanted, cache_from=tuple(pulled)))
