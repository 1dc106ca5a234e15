"""A Docker daemon to look up, pull and import images with: the machine's or a temporary one."""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import docker
from docker.errors import DockerException

from common import STATE, Unavailable, search_path

DATA_ROOT = STATE / "docker"  # the sandbox starts its dockerd on the same folder


def reachable_daemon() -> docker.DockerClient | None:
    """The daemon of DOCKER_HOST, or of the default socket; None if neither answers."""
    # A tcp daemon may be a service of the job that is still starting.
    patience = 30 if os.environ.get("DOCKER_HOST", "").startswith("tcp://") else 0
    deadline = time.monotonic() + patience

    while True:
        try:
            docker.from_env(timeout=5).ping()
            return docker.from_env(timeout=600)
        except (DockerException, OSError):
            if time.monotonic() >= deadline:
                return None
            time.sleep(1)


@contextmanager
def private_daemon() -> Iterator[docker.DockerClient]:
    """A temporary dockerd. Its images stay in the data root, where the sandbox finds them."""
    dockerd = shutil.which("dockerd", path=search_path())
    if dockerd is None:
        raise Unavailable(
            "no Docker daemon answers and dockerd is not installed: "
            "https://docs.docker.com/get-docker/"
        )
    if os.geteuid() != 0:
        raise Unavailable("no Docker daemon answers; start one, or run as root")
    DATA_ROOT.mkdir(exist_ok=True)

    with ExitStack() as stack:
        lock = stack.enter_context((STATE / "docker.lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(
                "a sandbox is using .cipipe/docker; stop it with `cipipe sandbox down`"
            ) from None

        # The path of a Unix socket has at most 107 bytes, and the checkout's may be too long.
        runtime = Path(tempfile.mkdtemp(prefix="cipipe-", dir="/tmp"))
        stack.callback(shutil.rmtree, runtime, ignore_errors=True)

        log = stack.enter_context((STATE / "dockerd-setup.log").open("wb"))
        process = subprocess.Popen(
            _command(dockerd, runtime),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": search_path()},
            start_new_session=True,
        )
        stack.callback(_stop, process)
        yield _wait_for(_socket(runtime), process)


def _command(dockerd: str, runtime: Path) -> list[str]:
    # Without this file, dockerd reads /etc/docker/daemon.json, and settings there may clash
    # with these options.
    configuration = runtime / "daemon.json"
    configuration.write_text("{}")

    command = [
        dockerd,
        f"--data-root={DATA_ROOT}",
        f"--exec-root={runtime}/exec",
        f"--pidfile={runtime}/pid",
        f"--config-file={configuration}",
        f"--host={_socket(runtime)}",
        "--iptables=false",
        "--ip6tables=false",
    ]

    # No container runs here, so no network is needed. But with --bridge=none, dockerd would delete
    # the docker0 of another daemon.
    if not Path("/sys/class/net/docker0").exists():
        command.append("--bridge=none")
    return command


def _socket(runtime: Path) -> str:
    return f"unix://{runtime}/docker.sock"


def _wait_for(socket: str, process: subprocess.Popen[bytes]) -> docker.DockerClient:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            docker.DockerClient(base_url=socket, timeout=5).ping()
            return docker.DockerClient(base_url=socket, timeout=600)
        except (DockerException, OSError):
            time.sleep(0.2)
    raise Unavailable("dockerd does not start here; see .cipipe/dockerd-setup.log")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
