"""The registry as a container, for a machine that has Docker and no registry's program.

It is Distribution's own image, and gets the same configuration: the socket and the storage are in
the sandbox's folder, which is mounted, so the container has no network and no port.
"""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from cipipe.sandbox.images import dockerd
from cipipe.tools import process

VARIABLE = "CIPIPE_SANDBOX_REGISTRY_IMAGE"

# Version 2.8.3, for every platform.
IMAGE = "registry:2@sha256:a3d8aaa63ed8681a604f1dea0aa03f100d5895b6a58ace528858a7b332415373"

# Seconds. The image has 10 MB.
_PULL_TIMEOUT = 45.0


class UnavailableError(Exception):
    """Why there is no registry in a container here."""


def image(env: Mapping[str, str]) -> str:
    """The image's name; `CIPIPE_SANDBOX_REGISTRY_IMAGE` chooses another one."""
    return env.get(VARIABLE) or IMAGE


def possible(env: Mapping[str, str]) -> bool:
    """Whether it can be tried: with the docker command, and a daemon that can mount the folder."""
    if sys.platform != "linux" or not shutil.which("docker", path=env.get("PATH", os.defpath)):
        return False
    if dockerd.answers(env):
        return (env.get("DOCKER_HOST") or "unix://").startswith("unix://")
    return dockerd.program(env) is not None


def command(folder: Path, env: Mapping[str, str]) -> list[str]:
    """The command that starts the registry, before its own arguments; pulls the image.

    `env` has the DOCKER_HOST of the daemon. Raises UnavailableError.
    """
    wanted = image(env)
    options = ["docker", "info", "--format", "{{json .SecurityOptions}}"]
    info = process.run(options, env=env, check=False)
    if info.returncode != 0:
        raise UnavailableError(f"`docker info` failed: {_last_line(info.stderr)}")
    if process.run(["docker", "image", "inspect", wanted], env=env, check=False).returncode != 0:
        _pull(wanted, folder, env)

    # The name of a container that a killed sandbox left.
    name = f"cipipe-registry-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
    process.run(["docker", "rm", "--force", name], env=env, check=False)

    # A rootless daemon's root is the user who runs it.
    rootless = b'"name=rootless' in info.stdout
    user = "0:0" if rootless else f"{os.geteuid()}:{os.getegid()}"
    path = str(folder).replace('"', '""')
    return [
        *("docker", "run", "--rm", "--name", name, "--pull", "never", "--network", "none"),
        *("--user", user, "--userns", "host", "--security-opt", "label=disable"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only"),
        *("--mount", f'type=bind,"source={path}","target={path}"', "--workdir", str(folder)),
        wanted,
    ]


def _pull(wanted: str, folder: Path, env: Mapping[str, str]) -> None:
    log = folder / "registry-pull.log"
    log.unlink(missing_ok=True)
    lifetime = process.Lifetime(guarded=True)
    service = process.start(
        ["docker", "pull", "--quiet", wanted], env=env, log=log, lifetime=lifetime
    )
    deadline = time.monotonic() + _PULL_TIMEOUT
    while service.returncode is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if service.returncode is None:
        service.stop()
        raise UnavailableError(f"{wanted} could not be pulled within {_PULL_TIMEOUT:.0f} s")
    if service.returncode != 0:
        raise UnavailableError(f"{wanted} cannot be pulled: {_last_line(log.read_bytes())}")


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
