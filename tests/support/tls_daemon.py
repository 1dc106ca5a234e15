"""A real Docker daemon as docker:dind offers it to a GitLab job: at a port, with TLS on both
sides.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cipipe.tools.docker.adapter import TlsAdapter
from cipipe.tools.docker.address import Tls
from support.certificates import Authority
from support.image_project import shell_image


class TlsDaemon:
    """The daemon. It can be killed and started again, with the same images."""

    def __init__(
        self,
        program: Path,
        folder: Path,
        data: Path | None = None,
        features: Mapping[str, bool] | None = None,
    ) -> None:
        self.authority = Authority(folder / "authority")
        self.certificates = self.authority.client()
        self._server = self.authority.server()
        self._program = program
        self._folder = folder
        self._data = data or folder / "data"
        self._configuration = {"features": dict(features or {})}
        self._process: subprocess.Popen[bytes] | None = None
        # Short: a socket's path has at most 107 bytes.
        self._run = tempfile.mkdtemp(prefix="cipipe-docker-", dir="/tmp")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def env(self) -> dict[str, str]:
        """What a job sets."""
        return {
            "DOCKER_HOST": f"tcp://127.0.0.1:{self.port}",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(self.certificates),
        }

    @property
    def socket(self) -> str:
        """DOCKER_HOST on this machine: the same daemon, without TLS."""
        return f"unix://{self._run}/docker.sock"

    def start(self, *, wait: bool = True) -> None:
        (Path(self._run) / "daemon.json").write_text(json.dumps(self._configuration))
        argv = [
            *(str(self._program), "--data-root", str(self._data)),
            *("--exec-root", f"{self._run}/exec", "--pidfile", f"{self._run}/docker.pid"),
            *("--config-file", f"{self._run}/daemon.json"),
            *("--host", f"tcp://127.0.0.1:{self.port}", "--tlsverify"),
            *("--host", self.socket),
            *("--tlscacert", str(self.authority.folder / "ca.pem")),
            *("--tlscert", str(self._server), "--tlskey", str(self._server)),
        ]
        with (self._folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        if wait:
            self._wait()

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(Exception), contextlib.closing(self.client()) as client:
                client.ping()
                return
            time.sleep(0.1)
        self.stop()
        pytest.fail(f"dockerd did not start:\n{(self._folder / 'dockerd.log').read_text()[-3000:]}")

    def client(self) -> Any:
        import docker
        from docker.tls import TLSConfig

        folder = self.certificates
        tls = TLSConfig(
            client_cert=(str(folder / "cert.pem"), str(folder / "key.pem")),
            ca_cert=str(folder / "ca.pem"),
            verify=True,
        )
        made = docker.DockerClient(base_url=self.env["DOCKER_HOST"], version="1.41", tls=tls)
        # REQUESTS_CA_BUNDLE would replace the CA.
        made.api.trust_env = False
        # The CA has no key usage, like that of an older docker:dind.
        made.api.mount("https://", TlsAdapter(Tls(folder, verify=True)))
        return made

    def import_base(self, name: str) -> None:
        repository, _, tag = name.partition(":")
        with contextlib.closing(self.client()) as client:
            client.api.import_image_from_data(shell_image(), repository=repository, tag=tag)

    def kill(self) -> None:
        """As the kernel does it when memory runs out."""
        assert self._process is not None
        state = Path(self._run, "exec/containerd")
        containerd = int((state / "containerd.pid").read_text())
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.kill(containerd, signal.SIGKILL)
        # In a container nobody may wait for containerd, and the next daemon
        # would take its process id for a running one.
        shutil.rmtree(state)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)
        # What a killed daemon, or a container without a network, leaves behind.
        mounts = [line.split(" ")[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed(mounts):
            if f"{mount}/".startswith((f"{self._data}/", f"{self._run}/")):
                subprocess.run(["umount", "--lazy", mount], check=False)
