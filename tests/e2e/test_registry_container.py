"""The sandbox's registry as a container, where no registry is installed. Its image is Debian's
registry, in place of the one on Docker Hub.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cipipe.sandbox import Sandbox, SandboxOptions, attached, missing
from cipipe.sandbox.images import registry_image
from cipipe.tools.aws import clients
from support.job_image import debian_with, docker
from support.tls_daemon import TlsDaemon
from support.tools import require

REGISTRY = "cipipe-registry:test"
ACCOUNT = "111111111111"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsDaemon]:
    folder = tmp_path_factory.mktemp("registry")
    daemon = TlsDaemon(require("dockerd", "a registry in a container"), folder)
    daemon.start()
    try:
        debian_with(daemon.env, REGISTRY, "docker-registry", entrypoint="docker-registry")
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(folder / "data")


@pytest.fixture
def env(daemon: TlsDaemon, tmp_path: Path) -> dict[str, str]:
    """A machine that has the docker command and a daemon, and nothing else."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "docker").symlink_to(require("docker", "a registry in a container"))
    return {
        "PATH": str(programs),
        "HOME": str(tmp_path),
        "DOCKER_HOST": daemon.socket,
        registry_image.VARIABLE: REGISTRY,
    }


def sandbox_options(folder: Path) -> SandboxOptions:
    return SandboxOptions(directory=folder / 'a, "quoted" folder', account_id=ACCOUNT)


def containers(daemon: TlsDaemon) -> list[str]:
    return docker(daemon.env, "ps", "--all", "--format", "{{.Image}}").stdout.split()


def pushed(daemon: TlsDaemon, sandbox: Sandbox, repository: str) -> str:
    """Push an image as a job does, and give its digest."""
    name = f"{sandbox.state.registry}/{repository}:one"
    assert docker(daemon.env, "tag", REGISTRY, name).returncode == 0
    done = docker(daemon.env, "push", name)
    assert done.returncode == 0, done.stderr
    digests = docker(
        daemon.env, "image", "inspect", name, "--format", "{{json .RepoDigests}}"
    ).stdout
    return "sha256:" + digests.rpartition("sha256:")[2][:64]


def test_an_image_is_pushed_listed_and_deleted(
    daemon: TlsDaemon, env: dict[str, str], tmp_path: Path
) -> None:
    assert "registry" not in missing(env)
    with attached(sandbox_options(tmp_path), env=env, say=lambda _: None) as sandbox:
        assert "registry" not in sandbox.state.missing
        assert containers(daemon) == [REGISTRY]
        ecr = clients.Aws(sandbox.endpoint("eu-central-1"), sandbox.admin)
        ecr.call("ecr", "create_repository", repositoryName="shop")
        digest = pushed(daemon, sandbox, "shop")
        listed = ecr.call("ecr", "list_images", repositoryName="shop")["imageIds"]
        assert listed == [{"imageDigest": digest, "imageTag": "one"}]
        ecr.call("ecr", "batch_delete_image", repositoryName="shop", imageIds=[{"imageTag": "one"}])
        assert ecr.call("ecr", "list_images", repositoryName="shop")["imageIds"] == []
    assert containers(daemon) == []


def test_a_killed_sandbox_leaves_no_container(
    daemon: TlsDaemon, env: dict[str, str], tmp_path: Path
) -> None:
    with attached(sandbox_options(tmp_path), env=env, say=lambda _: None) as sandbox:
        os.kill(sandbox.state.pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while containers(daemon) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert containers(daemon) == []


def test_an_image_that_cannot_be_pulled(
    daemon: TlsDaemon, env: dict[str, str], tmp_path: Path
) -> None:
    env[registry_image.VARIABLE] = "registry.invalid/registry:2"
    with attached(sandbox_options(tmp_path), env=env, say=lambda _: None) as sandbox:
        assert sandbox.state.registry is None
        said = sandbox.state.missing["registry"]
    assert "registry.invalid/registry:2 cannot be pulled: Error response from daemon" in said
    assert said.endswith("apt install docker-registry")
    assert containers(daemon) == []


def test_where_no_container_can_be_tried(daemon: TlsDaemon, env: dict[str, str]) -> None:
    """There is no docker command, or the daemon may be on another machine."""
    for change in ({"PATH": "/nonexistent"}, {"DOCKER_HOST": daemon.env["DOCKER_HOST"]}):
        said = missing(env | change)["registry"]
        assert said.startswith("no image registry is installed. Debian")


def test_the_default_is_pinned() -> None:
    assert "@sha256:" in registry_image.image({})
