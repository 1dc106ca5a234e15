"""Docker for the sandbox: the daemon of the machine, or a private one.

A private daemon keeps its images in a data-root that only one daemon at a
time may use; a second one gets a data-root of its own. The daemon inherits
the lock, so that it is released only when the last process of the daemon is
gone.
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

# Run folders of private daemons in /tmp.
RUN_PREFIX = "cipipe-docker-"

# Where dockerd and its helpers are installed, which an ordinary PATH does
# not include.
_SYSTEM_PATH = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))


class Dockerd:
    """A private daemon."""

    def __init__(self, run: Path, service: process.Service, lock: int) -> None:
        # For DOCKER_HOST.
        self.host = f"unix://{run / 'docker.sock'}"
        self._run = run
        self._service = service

        # A file descriptor.
        self._lock = lock

    @classmethod
    def start(
        cls, program: str, env: Mapping[str, str], *, folder: Path, data: Path | None
    ) -> "Dockerd":
        """Start a daemon with its images in `data`, or below `folder` if
        another one uses that.

        Call `wait` before using it.
        """
        root, lock = _data_root(folder, data)

        # A socket's path has at most 107 bytes, so it cannot be in just any
        # folder.
        run = Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir="/tmp"))

        # An empty configuration: the machine's own may name a data-root and
        # hosts as well.
        (run / "daemon.json").write_text("{}")
        options = {
            "--data-root": root,
            "--exec-root": run / "exec",
            "--pidfile": run / "docker.pid",
            "--host": f"unix://{run / 'docker.sock'}",
            "--config-file": run / "daemon.json",
        }
        argv = [program]
        for name, value in options.items():
            argv += [name, str(value)]

        service = process.start(
            argv,
            env={**env, "PATH": _path(env)},
            log=folder / "dockerd.log",
            lifetime=process.Lifetime(guarded=True, keep=(lock,)),
        )
        return cls(run, service, lock)

    def wait(self, timeout: float = 40.0) -> None:
        """Wait until it answers. Raises StageError."""
        deadline = time.monotonic() + timeout
        while self._service.returncode is None and time.monotonic() < deadline:
            if answers({"DOCKER_HOST": self.host}):
                return
            time.sleep(0.05)
        raise StageError("sandbox-not-started", f"dockerd did not start:\n{self._service.tail()}")

    def stop(self) -> None:
        """Stop it with its containers and with containerd."""
        self._service.stop(timeout=30)
        os.close(self._lock)
        _remove(self._run)


def answers(env: Mapping[str, str]) -> bool:
    """Whether the daemon of DOCKER_HOST, or of the default socket, accepts connections."""
    host = urllib.parse.urlsplit(env.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}")

    # Only ssh itself could tell, with keys and questions of its own.
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
    """The dockerd that may be started here: on Linux, as root, if it is installed."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return None
    return shutil.which("dockerd", path=_path(env))


def remove_run(host: str | None) -> None:
    """Remove what a private daemon that was killed left in /tmp.

    `host` is its DOCKER_HOST; any other daemon's is ignored.
    """
    run = Path((host or "").removeprefix("unix://")).parent
    if run.name.startswith(RUN_PREFIX):
        _remove(run)


def _path(env: Mapping[str, str]) -> str:
    return f"{env.get('PATH', os.defpath)}{os.pathsep}{_SYSTEM_PATH}"


def _remove(run: Path) -> None:
    # A container without a network leaves a mount of its network namespace
    # behind.
    for mount in (run / "exec" / "netns").glob("*"):
        process.run(
            ["umount", "--lazy", "--", str(mount)],
            env={"PATH": _SYSTEM_PATH + ":/usr/bin:/bin"},
            check=False,
        )
    shutil.rmtree(run, ignore_errors=True)


def _data_root(folder: Path, data: Path | None) -> tuple[Path, int]:
    """A data-root that no other daemon uses, with the file descriptor of its lock."""
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
        hint="Wait until it has stopped, or stop the other sandbox: `cipipe sandbox down`.",
        where=str(candidates[0]),
    )
