"""Docker for the sandbox: the daemon that is there, or a private one.

A private daemon keeps its images in a data-root that one daemon at a time may use; who comes second
gets a data-root of its own. The lock is inherited by the daemon, so that it holds for as long as
anything of it lives.
"""

import fcntl
import os
import shutil
import socket
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from cipipe.errors import StageError
from cipipe.tools import process

DEFAULT_SOCKET = "/var/run/docker.sock"
RUN_PREFIX = "cipipe-docker-"
_SYSTEM_PATH = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))


class Dockerd:
    """A private daemon; `host` is what goes into DOCKER_HOST."""

    def __init__(self, run: Path, service: process.Service, lock: int) -> None:
        self.host = f"unix://{run / 'docker.sock'}"
        self._run = run
        self._service = service
        self._lock = lock

    @classmethod
    def start(
        cls, folder: Path, data: Path | None, env: Mapping[str, str], program: str
    ) -> "Dockerd":
        """Start one that keeps its images in `data`, or below `folder` if that is taken; call
        `wait` before using it.
        """
        root, lock = _data_root(folder, data)
        # A socket's path has at most 107 bytes, so it cannot lie in just any folder.
        run = Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir="/tmp"))
        argv = [
            program,
            *(
                "--data-root",
                str(root),
                "--exec-root",
                str(run / "exec"),
                "--pidfile",
                str(run / "docker.pid"),
            ),
            *("--host", f"unix://{run / 'docker.sock'}", "--config-file", str(run / "daemon.json")),
        ]
        (run / "daemon.json").write_text("{}")
        search = {**env, "PATH": f"{env.get('PATH', os.defpath)}{os.pathsep}{_SYSTEM_PATH}"}
        service = process.start(
            argv, env=search, log=folder / "dockerd.log", guarded=True, keep=(lock,)
        )
        return cls(run, service, lock)

    def wait(self, timeout: float = 40.0) -> None:
        """Until it answers. Raises StageError."""
        ends = time.monotonic() + timeout
        while self._service.returncode is None and time.monotonic() < ends:
            if answers({"DOCKER_HOST": self.host}):
                return
            time.sleep(0.05)
        raise StageError("sandbox-not-started", f"dockerd did not start:\n{self._service.tail()}")

    def stop(self) -> None:
        """Have it stop its containers and end; containerd ends with it."""
        self._service.stop(timeout=30)
        os.close(self._lock)
        _remove(self._run)


def answers(env: Mapping[str, str]) -> bool:
    """Whether the daemon of DOCKER_HOST, or else of the default socket, takes connections."""
    host = urllib.parse.urlsplit(env.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}")
    if host.scheme == "ssh":
        return True
    try:
        if host.scheme == "unix":
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(2)
                client.connect(host.path)
                client.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
                return b" 200 " in client.recv(64)
        with socket.create_connection((host.hostname or "", host.port or 2375), timeout=2):
            return True
    except OSError:
        return False


def program(env: Mapping[str, str]) -> str | None:
    """The dockerd that may be started here: Linux, as root, installed."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return None
    return shutil.which("dockerd", path=f"{env.get('PATH', os.defpath)}{os.pathsep}{_SYSTEM_PATH}")


def remove_run(host: str | None) -> None:
    """Remove what a private daemon that was killed left in /tmp; leaves any other DOCKER_HOST
    alone.
    """
    run = Path((host or "").removeprefix("unix://")).parent
    if run.name.startswith(RUN_PREFIX):
        _remove(run)


def _remove(run: Path) -> None:
    """Remove a daemon's run folder; containers without a network leave a mount of their namespace
    in it.
    """
    for mount in (run / "exec" / "netns").glob("*"):
        process.run(
            ["umount", "--lazy", "--", str(mount)],
            env={"PATH": _SYSTEM_PATH + ":/usr/bin:/bin"},
            check=False,
        )
    shutil.rmtree(run, ignore_errors=True)


def _data_root(folder: Path, data: Path | None) -> tuple[Path, int]:
    candidates = [path.resolve() for path in (data, folder / "docker") if path is not None]
    for root in candidates:
        root.mkdir(parents=True, exist_ok=True)
        lock = os.open(root.with_name(root.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
        else:
            return root, lock
    raise StageError(
        "sandbox-docker-data-taken",
        "another Docker daemon uses the sandbox's images",
        hint="Wait until it has ended, or end the other sandbox: `cipipe sandbox down`.",
        where=str(candidates[0]),
    )
