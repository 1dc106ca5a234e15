"""The container image of cipipe, built from a checkout by whatever daemon an environment names, and
other images with the same base.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from support.terraform_mirror import terraform_mirror
from support.tools import ROOT, require

IMAGE = "cipipe-job:test"
DEBIAN = "cipipe-base:trixie"
DOCKERFILE = "container/Dockerfile"
DEFAULT = re.compile(r"^ARG BASE_IMAGE=(.+)$", re.MULTILINE)


def docker(
    env: Mapping[str, str], *argv: str, cwd: Path = ROOT, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """The docker command; `text` is its standard input."""
    return subprocess.run(
        [require("docker", "building the image for jobs"), *argv],
        cwd=cwd,
        env={**os.environ, **env},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def build_job_image(env: Mapping[str, str], checkout: Path, folder: Path) -> None:
    """Build the image from a checkout, with this machine's Terraform. `folder` is empty."""
    base = debian_base(env)
    terraform = require("terraform", "the image for jobs")
    with terraform_mirror(terraform, folder / "served") as mirror:
        source = folder / "source"
        shutil.copytree(checkout, source, symlinks=True, ignore=shutil.ignore_patterns(".cipipe"))
        mirror.use_in(source)
        secret = folder / "mirror"
        secret.write_text(mirror.url)
        done = docker(
            env,
            *("buildx", "build", "--network", "host", "--file", DOCKERFILE, "--tag", IMAGE),
            *("--secret", f"id=TERRAFORM_MIRROR,src={secret}"),
            *base,
            ".",
            cwd=source,
        )
    assert done.returncode == 0, done.stdout + done.stderr


def debian_base(env: Mapping[str, str]) -> list[str]:
    """The options that name the base image. Where the Dockerfile's default can be pulled, it is."""
    archive = ROOT / ".cipipe/base-image-trixie.tar"
    if not archive.exists():
        (default,) = DEFAULT.findall((ROOT / DOCKERFILE).read_text())
        if docker(env, "pull", default).returncode != 0:
            require(archive, "the base image for jobs")
        return []
    done = docker(env, "import", str(archive), DEBIAN)
    assert done.returncode == 0, done.stderr
    return ["--build-arg", f"BASE_IMAGE={DEBIAN}"]


def import_dbt_base(env: Mapping[str, str], name: str | None) -> None:
    """Give a daemon the base image of the dbt container, where its default cannot be pulled: other
    daemons than the one of scripts/setup do not have it.
    """
    if name:
        archive = require(ROOT / ".cipipe/base-image-bookworm.tar", "the dbt container")
        done = docker(env, "import", str(archive), name)
        assert done.returncode == 0, done.stderr


def debian_with(
    env: Mapping[str, str], name: str, *packages: str, entrypoint: str | None = None
) -> None:
    """Build an image of the base with more of Debian's packages."""
    (default,) = DEFAULT.findall((ROOT / DOCKERFILE).read_text())
    install = "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends"
    lines = [
        f"ARG BASE_IMAGE={default}",
        "FROM ${BASE_IMAGE}",
        f"RUN apt-get update -qq && {install} {' '.join(packages)} >/dev/null",
    ]
    if entrypoint:
        lines.append(f'ENTRYPOINT ["{entrypoint}"]')
    argv = ("buildx", "build", "--network", "host", "--tag", name, *debian_base(env), "-")
    done = docker(env, *argv, text="\n".join(lines))
    assert done.returncode == 0, done.stdout + done.stderr
