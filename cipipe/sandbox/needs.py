"""What this machine lacks for a complete sandbox, reported before anything starts."""

import os
import shutil
from collections.abc import Mapping

from cipipe.sandbox.images import dockerd, registry_image
from cipipe.sandbox.images.registry import PROGRAMS


def missing(env: Mapping[str, str]) -> dict[str, str]:
    """Missing tool (`terraform`, `docker`, `registry`) → how to install it."""
    path = env.get("PATH", os.defpath)
    found: dict[str, str] = {}
    if not shutil.which("terraform", path=path):
        found["terraform"] = (
            "Terraform is not installed. Get 1.11 or newer: "
            "https://developer.hashicorp.com/terraform/install"
        )

    # dockerd is enough: the sandbox starts a private daemon then.
    if not dockerd.answers(env) and not dockerd.program(env):
        found["docker"] = _docker(env)
    if registry_program(env) is None and not registry_image.possible(env):
        found["registry"] = registry()
    return found


def registry(reason: str | None = None) -> str:
    """How to get a registry; `reason` is why it does not run in a container."""
    why = f", and {reason}" if reason else ""
    return f"no image registry is installed{why}. Debian and Ubuntu: apt install docker-registry"


def registry_program(env: Mapping[str, str]) -> str | None:
    """The registry's program, under the name that it has on this machine."""
    path = env.get("PATH", os.defpath)
    return next((name for name in PROGRAMS if shutil.which(name, path=path)), None)


def _docker(env: Mapping[str, str]) -> str:
    host = env.get("DOCKER_HOST")
    if host:
        return (
            f"the Docker daemon at {host} (DOCKER_HOST) does not answer. Start it, or unset the "
            "variable."
        )
    return (
        "no Docker daemon answers, and a private one needs root on Linux and dockerd. "
        "Start Docker, or on Debian and Ubuntu: apt install docker.io"
    )
