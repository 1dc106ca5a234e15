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

# The first major version of the command with BuildKit, and the first one
# that needs the plugin buildx for it.
_BUILT_IN = 18
_PLUGIN = 23

# Variables that the command reads itself: a build argument of such a name
# is passed by value.
_OWN = re.compile(r"PATH|HOME|NO_PROXY|no_proxy|(?:DOCKER|BUILDX)_.*")

# Lines of output that an error quotes, from the end.
_SHOWN = 15

# What BuildKit prints when it cannot pull the image of a `# syntax=` line,
# and what it prints when its own frontend does not know an instruction or
# flag.
_NOT_PULLED = re.compile(
    r"resolve image config for \S*docker/dockerfile"
    r"|failed to resolve source metadata for \S*docker/dockerfile"
)
_TOO_OLD = re.compile(r"parse error.*: unknown (?:flag|instruction)", re.IGNORECASE)


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """What to build."""

    # Relative to the context.
    dockerfile: str
    tag: str
    build_args: Mapping[str, str]
    labels: Mapping[str, str]
    platform: str | None = None
    network: str | None = None
    # The time of files and image, in seconds since 1970.
    created: int = 0


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
) -> None:
    """Build a folder with the context in it, and pass each line of output
    to `line`.

    `argv` is what `command` returned. Raises StageError.
    """
    by_value = {name: value for name, value in wanted.build_args.items() if _OWN.fullmatch(name)}
    by_name = {name: value for name, value in wanted.build_args.items() if name not in by_value}
    arguments = [
        *("--progress", "plain", "--tag", wanted.tag, "--file", str(folder / wanted.dockerfile)),
        *(f"--label={name}={value}" for name, value in wanted.labels.items()),
        # A build argument without a value is read from the environment,
        # which other users of the machine cannot see.
        *(f"--build-arg={name}" for name in by_name),
        *(f"--build-arg={name}={value}" for name, value in by_value.items()),
        *([f"--platform={wanted.platform}"] if wanted.platform else []),
        *([f"--network={wanted.network}"] if wanted.network else []),
    ]
    own = {
        "DOCKER_BUILDKIT": "1",
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        "SOURCE_DATE_EPOCH": str(wanted.created),
    }
    try:
        process.stream(
            [*argv, *arguments, str(folder)],
            env={**env, **own, **_no_proxy(env), **by_name},
            line=line,
            watch=watch,
        )
    except process.ProcessFailed as error:
        raise _failed(wanted.tag, error.completed.stdout.decode(errors="replace")) from error


def _no_proxy(env: Mapping[str, str]) -> dict[str, str]:
    """Variables that keep the command from asking the daemon through a proxy."""
    host = address(env).host
    if not host:
        return {}
    return {
        name: f"{env[name]},{host}" if env.get(name) else host for name in ("NO_PROXY", "no_proxy")
    }


def _failed(tag: str, printed: str) -> StageError:
    lines = [
        text
        for text in printed.splitlines()
        if text.strip() and not re.match(r"#\d+ sha256:|-+\Z", text)
    ]
    last = lines[-1] if lines else "it printed nothing"
    hint = "The lines above are the builder's own."
    if _NOT_PULLED.search(printed):
        hint = (
            "The image that `# syntax=` names cannot be pulled. Let the daemon reach its registry, "
            "name a copy in one that it reaches, or remove the line if the builder knows what the "
            "Dockerfile uses without it."
        )
    elif _TOO_OLD.search(printed):
        hint = (
            "This Docker is too old to know that by itself: write `# syntax=docker/dockerfile:1` "
            "as the first line of the Dockerfile, or update Docker."
        )
    tail = "\n".join(lines[-_SHOWN:-1])
    return StageError(
        "docker-build-failed",
        f"docker build of {tag} failed: {last}" + (f"\n{tail}" if tail else ""),
        hint=hint,
    )
