"""Builds with BuildKit, by the `docker` command: the SDK knows Docker's
classic builder only.

https://docs.docker.com/reference/cli/docker/buildx/build, https://docs.docker.com/build/buildkit
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from cipipe.errors import StageError
from cipipe.tools import process
from cipipe.tools.docker.address import address
from cipipe.tools.docker.failures import is_no_space, no_space, of_daemon
from cipipe.tools.docker.progress import BuildProgress, StepName

# The first major version of the command with BuildKit, and the first one
# that needs the plugin buildx for it.
_BUILT_IN = 18
_PLUGIN = 23

# Variables that the command reads itself: a build argument of such a name
# is passed by value.
_OWN = re.compile(r"PATH|HOME|NO_PROXY|no_proxy|(?:DOCKER|BUILDX)_.*")

# Lines of output that an error quotes, from the end.
_SHOWN = 15

# Lines that say nothing about a failure.
_NOISE = re.compile(r"#\d+ sha256:|-+\Z")

# The first part of a variable with the value of a secret.
_SECRET = "CIPIPE_BUILD_SECRET_"  # noqa: S105

# What BuildKit prints when it cannot pull the image of a `# syntax=` line,
# and what it prints when its own frontend does not know an instruction or
# flag.
_NOT_PULLED = re.compile(
    r"resolve image config for \S*docker/dockerfile"
    r"|failed to resolve source metadata for \S*docker/dockerfile"
)
_TOO_OLD = re.compile(r"parse error.*: unknown (?:flag|instruction)", re.IGNORECASE)

# What buildx prints before it builds, where the daemon keeps images in its own
# store, which is the default.
_NO_EXPORT = "Cache export is not supported"


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """What to build."""

    # Relative to the context, or an absolute path outside of it.
    dockerfile: str
    tag: str
    build_args: Mapping[str, str]
    labels: Mapping[str, str]
    target: str | None = None
    # By the id that `RUN --mount=type=secret` names.
    secrets: Mapping[str, str] = {}
    platform: str | None = None
    network: str | None = None
    # The time of files and image, in seconds since 1970.
    created: int = 0
    # Images to take layers from, in a registry.
    cache_from: tuple[str, ...] = ()
    # Where all layers are written to; buildx only.
    cache_to: str | None = None
    # Put into the image what a later build needs to take layers from it.
    inline_cache: bool = False
    # `FILE:LINE` of each step of the Dockerfile.
    lines: Mapping[StepName, str] = {}


class FrontendNotPulled(StageError):
    """The daemon cannot pull the image that the Dockerfile's `# syntax=` names."""


class FrontendTooOld(StageError):
    """The daemon's own frontend does not know what the Dockerfile uses."""


def command(env: Mapping[str, str]) -> tuple[str, ...] | None:
    """How to call the first `docker` in PATH that builds with BuildKit; None where none does."""
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        program = shutil.which("docker", path=folder) if folder else None
        if program is None:
            continue
        version = [program, "version", "--format", "{{.Client.Version}}"]
        found = re.match(rb"\d+", process.run(version, env=env, check=False).stdout)
        major = int(found[0]) if found else 0
        if _BUILT_IN <= major < _PLUGIN:
            return (program, "build")
        if major >= _PLUGIN:
            buildx = process.run([program, "buildx", "version"], env=env, check=False)
            if buildx.returncode == 0:
                return (program, "buildx", "build", "--load")
    return None


def build(
    argv: tuple[str, ...],
    folder: Path,
    wanted: Build,
    *,
    env: Mapping[str, str],
    line: Callable[[str], None],
    watch: process.Watch,
) -> dict[str, str]:
    """Build a folder with the context in it, and pass each line of output
    to `line`. Returns the digests of base images, by their full names, as
    far as the builder says them.

    `argv` is what `command` returned. Raises StageError.
    """
    by_value = {name: value for name, value in wanted.build_args.items() if _OWN.fullmatch(name)}
    by_name = {name: value for name, value in wanted.build_args.items() if name not in by_value}
    secrets = {name: f"{_SECRET}{number}" for number, name in enumerate(wanted.secrets)}
    arguments = [
        *("--progress", "plain", "--tag", wanted.tag, "--file", str(folder / wanted.dockerfile)),
        *(f"--label={name}={value}" for name, value in wanted.labels.items()),
        # A build argument without a value is read from the environment,
        # which other users of the machine cannot see.
        *(f"--build-arg={name}" for name in by_name),
        *(f"--build-arg={name}={value}" for name, value in by_value.items()),
        *(f"--secret=id={name},env={variable}" for name, variable in secrets.items()),
        *([f"--target={wanted.target}"] if wanted.target else []),
        *([f"--platform={wanted.platform}"] if wanted.platform else []),
        *([f"--network={wanted.network}"] if wanted.network else []),
        *_cache_arguments(argv, wanted),
    ]
    own = {
        "DOCKER_BUILDKIT": "1",
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        "SOURCE_DATE_EPOCH": str(wanted.created),
        **{variable: wanted.secrets[name] for name, variable in secrets.items()},
    }
    progress = BuildProgress(line)
    try:
        process.stream(
            [*argv, *arguments, str(folder)],
            env={**env, **own, **_no_proxy(env), **by_name},
            line=progress.read,
            watch=watch,
        )
    except process.ProcessFailed as error:
        printed = error.completed.stdout.decode(errors="replace")
        if wanted.cache_to and _NO_EXPORT in printed:
            line(
                f"nothing is written to {wanted.cache_to}: the daemon has no containerd image store"
            )
            without = msgspec.structs.replace(wanted, cache_to=None)
            return build(argv, folder, without, env=env, line=line, watch=watch)
        raise _failed(wanted, progress, printed) from error
    return progress.bases


def _cache_arguments(argv: tuple[str, ...], wanted: Build) -> list[str]:
    buildx = "buildx" in argv
    kind = "type=registry,ref=" if buildx else ""
    arguments = [f"--cache-from={kind}{reference}" for reference in wanted.cache_from]
    if wanted.inline_cache and not buildx:
        arguments.append("--build-arg=BUILDKIT_INLINE_CACHE=1")
    elif wanted.inline_cache:
        arguments.append("--cache-to=type=inline")
    if wanted.cache_to and buildx:
        # ECR accepts a cache in this form only.
        form = "mode=max,image-manifest=true,oci-mediatypes=true,ignore-error=true"
        arguments.append(f"--cache-to=type=registry,ref={wanted.cache_to},{form}")
    return arguments


def _no_proxy(env: Mapping[str, str]) -> dict[str, str]:
    """Variables that keep the command from asking the daemon through a proxy."""
    host = address(env).host
    if not host:
        return {}
    return {
        name: f"{env[name]},{host}" if env.get(name) else host for name in ("NO_PROXY", "no_proxy")
    }


def _failed(wanted: Build, progress: BuildProgress, printed: str) -> StageError:
    message = _message(wanted.tag, progress, printed)
    where = wanted.lines.get(progress.failed) if progress.failed else None
    # What an instruction prints may be about its own connections.
    if progress.failed_title:
        special = no_space(message) if is_no_space(message) else None
    else:
        special = of_daemon(message)
    if special is not None:
        return StageError(special.id, special.message, hint=special.hint, where=where)
    error = StageError
    if _NOT_PULLED.search(printed):
        error = FrontendNotPulled
    elif _TOO_OLD.search(printed):
        error = FrontendTooOld
    return error(
        "docker-build-failed",
        message,
        hint=_hint(printed),
        where=where,
    )


def _message(tag: str, progress: BuildProgress, printed: str) -> str:
    last = progress.other[-1] if progress.other else ""
    if progress.failed_title:
        found = re.search(r"exit code: (\d+)", last)
        reason = f"exited with status {found[1]}" if found else last
        tail = "\n".join(progress.failed_output)
        message = f"docker build of {tag} failed: {progress.failed_title}: {reason}"
        return f"{message}\n{tail}" if tail else message

    lines = [text for text in printed.splitlines() if text.strip() and not _NOISE.match(text)]
    if not lines:
        return f"docker build of {tag} failed: it printed nothing"
    tail = "\n".join(lines[-_SHOWN:-1])
    return f"docker build of {tag} failed: {lines[-1]}" + (f"\n{tail}" if tail else "")


def _hint(printed: str) -> str:
    if _NOT_PULLED.search(printed):
        return (
            "The image that `# syntax=` names cannot be pulled. Let the daemon reach its registry, "
            "name a copy in one that it reaches, or remove the line if the builder knows what the "
            "Dockerfile uses without it."
        )
    if _TOO_OLD.search(printed):
        return (
            "This Docker is too old to know that by itself: write `# syntax=docker/dockerfile:1` "
            "as the first line of the Dockerfile, or update Docker."
        )
    return "The lines above are the builder's own."
