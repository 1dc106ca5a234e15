"""The image for CI jobs: built by a real daemon, and started as runners start it.

Its base is the Debian 13 that `scripts/setup test` made where none can be pulled.
"""

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import cipipe
from cipipe.tools.terraform.setup import installing
from support.clone import clone_of_this_repository
from support.job_image import IMAGE, build_job_image, docker
from support.tls_daemon import TlsDaemon
from support.tools import ROOT, require

# Bytes, unpacked. The documentation says so, too.
LIMIT = 560_000_000

# Users that jobs run as: the image's own; root, as GitHub's runners need for the Docker socket; and
# one that the image does not know, as on OpenShift.
USERS = ("", "0:0", "123456:0")


@dataclass(frozen=True)
class Jobs:
    """The daemon, and jobs in its containers."""

    daemon: TlsDaemon
    # A clone that belongs to root, as runners leave it.
    checkout: Path

    def image(self) -> Any:
        with contextlib.closing(self.daemon.client()) as client:
            return client.images.get(IMAGE)

    def run(self, script: str, user: str = "") -> str:
        """A job's script, with the daemon as a GitLab job reaches docker:dind."""
        certificates = self.daemon.certificates
        env = {**self.daemon.env, "DOCKER_CERT_PATH": "/certs/client"}
        argv = [
            *("docker", "run", "--rm", "--network", "host", "--workdir", "/builds/project"),
            *("--volume", f"{self.checkout}:/builds/project"),
            *("--volume", f"{certificates}:/certs/client:ro"),
            *(word for name, value in env.items() for word in ("--env", f"{name}={value}")),
            *(("--user", user) if user else ()),
            *(IMAGE, "sh", "-ec", script),
        ]
        done = docker(self.daemon.env, *argv[1:])
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    folder = tmp_path_factory.mktemp("jobs")
    checkout = clone_of_this_repository(folder / "checkout").folder
    daemon = TlsDaemon(require("dockerd", "building the image for jobs"), folder)
    # So that a user without privileges can read the key, as docker:dind has it.
    (daemon.certificates / "key.pem").chmod(0o644)
    for parent in [daemon.certificates, *daemon.certificates.parents][:4]:
        parent.chmod(0o755)

    daemon.start()
    try:
        build_job_image(daemon.env, checkout, folder / "image")
        yield Jobs(daemon, checkout)
    finally:
        daemon.stop()
        shutil.rmtree(folder / "data")


def test_it_has_the_tools(jobs: Jobs) -> None:
    shown = jobs.run(
        "cipipe --version; terraform version; "
        "docker buildx version; docker --version; git --version"
    )
    lines = shown.splitlines()
    assert lines[0] == f"cipipe {cipipe.__version__}"
    assert lines[1] == f"Terraform v{installing.VERSION}"
    assert re.search(r"^github.com/docker/buildx ", shown, re.MULTILINE)
    assert re.search(r"^Docker version 2\d\.", shown, re.MULTILINE)
    assert re.search(r"^git version 2\.", shown, re.MULTILINE)


@pytest.mark.parametrize("user", USERS)
def test_a_plan_in_a_checkout_that_belongs_to_root(jobs: Jobs, user: str) -> None:
    shown = jobs.run(
        'stat --format %u .; test -w "$HOME"; cipipe plan --offline --format json', user
    )
    owner, _, document = shown.partition("\n")
    assert owner == "0"
    commit = json.loads(document)["commit"]
    head = ["git", "rev-parse", "HEAD"]
    assert commit == subprocess.check_output(head, cwd=jobs.checkout, text=True).strip()


@pytest.mark.parametrize("user", USERS)
def test_the_doctor_finds_every_tool(jobs: Jobs, user: str) -> None:
    """git, Terraform, and a daemon at a port with TLS."""
    document = json.loads(jobs.run("cipipe doctor --format json", user))
    found = {check["name"]: check["result"] for check in document["checks"]}
    assert {name: found[name] for name in ("git", "terraform", "docker")} == {
        "git": "ok",
        "terraform": "ok",
        "docker": "ok",
    }


def test_buildx_builds_as_the_images_user(jobs: Jobs) -> None:
    shown = jobs.run(
        "mkdir /tmp/app; echo hello >/tmp/app/file; "
        f"printf 'FROM {IMAGE}\\nCOPY --link file /file\\n' >/tmp/app/Dockerfile; "
        "docker buildx build --quiet --tag cipipe-job:built /tmp/app; "
        "docker run --rm --network none cipipe-job:built cat /file"
    )
    assert shown.endswith("\nhello\n")


def test_what_a_runner_sees(jobs: Jobs) -> None:
    image = jobs.image()
    config = image.attrs["Config"]
    assert config["User"] == "cipipe"
    assert not config.get("Entrypoint")
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert not [line for line in config["Env"] if "TERRAFORM_MIRROR" in line]
    assert image.attrs["Size"] < LIMIT
    assert f"{LIMIT // 1_000_000} MB" in (ROOT / "docs/container-image.md").read_text()


def test_nothing_that_only_the_build_needed_is_left(jobs: Jobs) -> None:
    shown = jobs.run(
        "cd /opt/cipipe/lib/python3*/site-packages; ls; "
        "for tool in pip pip3 gcc make curl dockerd; do ! command -v $tool; done; "
        "ls /usr/lib/python3.13/ensurepip /var/lib/apt/lists 2>/dev/null || true; "
        "find . -name '*.py' | wc -l; find . -name '*.pyc' | wc -l"
    )
    packages = shown.splitlines()
    sources, compiled = packages[-2:]
    assert "boto3" in packages
    assert not {"hatchling", "pip", "setuptools", "tomlkit", "ensurepip", "partial"} & set(packages)
    assert not [line for line in packages if "Packages" in line or line.startswith("/usr/bin")]
    assert int(sources) == int(compiled) > 500


def test_the_users_code_cannot_change_cipipe(jobs: Jobs) -> None:
    shown = jobs.run(
        "find /opt/cipipe /usr/local/bin ! -type l \\( ! -user root -o -perm /022 \\); id -un"
    )
    assert shown == "cipipe\n"
