"""The image registry: Distribution's own server, on a socket in the
sandbox's folder.

What its HTTP API cannot do (remove a tag, list untagged manifests) is done in its storage, whose
layout is documented:
https://github.com/distribution/distribution/blob/release/2.8/registry/storage/paths.go
"""

import http.client
import json
import shutil
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cipipe.errors import StageError
from cipipe.tools import process
from cipipe.tools.http import HttpError

# The name in Debian and Ubuntu, and Distribution's own.
PROGRAMS = ("docker-registry", "registry")

MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
_SOCKET = "registry.sock"

# Seconds. A large layer is stored before it is answered.
_TIMEOUT = 600.0


class RegistryServer:
    """A running registry."""

    def __init__(self, storage: Path, service: process.Service) -> None:
        # HOST:PORT, the first part of an image's name. Set by whoever
        # serves the registry.
        self.host = ""
        self._storage = storage
        self._service = service

    @classmethod
    def start(
        cls, folder: Path, env: Mapping[str, str], command: Sequence[str]
    ) -> "RegistryServer":
        """Start a registry with empty storage below `folder`, this
        process's working directory.

        `command` is its program, or what runs it in a container. Call
        `wait` before using it.
        """
        storage = folder / "registry"
        shutil.rmtree(storage, ignore_errors=True)
        storage.mkdir(parents=True)

        # A socket that a killed registry left would make the new one fail.
        (folder / _SOCKET).unlink(missing_ok=True)
        config = folder / "registry.json"
        config.write_text(json.dumps(_config(storage)))
        argv = [*command, "serve", str(config)]
        log = folder / "registry.log"
        lifetime = process.Lifetime(guarded=True)
        service = process.start(argv, env=env, log=log, cwd=folder, lifetime=lifetime)
        return cls(storage, service)

    def wait(self, timeout: float = 20.0) -> None:
        """Wait until it answers. Raises StageError."""
        deadline = time.monotonic() + timeout
        while self._service.returncode is None and time.monotonic() < deadline:
            try:
                if self._ask("GET", "/v2/").status == 200:
                    return
            except HttpError:
                time.sleep(0.03)
        raise StageError(
            "sandbox-not-started", f"the image registry did not start:\n{self._service.tail()}"
        )

    def stop(self) -> None:
        self._service.stop()

    def send(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
    ) -> "http.client.HTTPResponse":
        """Pass a request on; a body without a `content-length` is sent in
        chunks.

        Raises OSError, HTTPException.
        """
        # `close` ties the socket to the response: it is closed once that
        # was read, or is closed.
        sent = {**headers, "connection": "close"}
        chunked = "content-length" not in headers and not isinstance(body, bytes | None)
        if chunked:
            sent["transfer-encoding"] = "chunked"

        connection = _Connection()
        try:
            connection.request(method, target, body=body, headers=sent, encode_chunked=chunked)
            return connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def digests(self, repository: str) -> list[str]:
        """Every manifest in the repository, tagged or not."""
        found = self._manifests(repository).glob("revisions/sha256/*/link")
        return sorted(link.read_text().strip() for link in found)

    def tags(self, repository: str) -> dict[str, str]:
        """Tag → digest."""
        found = self._manifests(repository).glob("tags/*/current/link")
        return {link.parent.parent.name: link.read_text().strip() for link in sorted(found)}

    def pushed_at(self, repository: str, digest: str) -> float:
        """Seconds since 1970."""
        hexadecimal = digest.removeprefix("sha256:")
        link = self._manifests(repository) / "revisions/sha256" / hexadecimal / "link"
        return link.stat().st_mtime

    def manifest(self, repository: str, digest: str) -> tuple[bytes, str]:
        """A manifest and its media type. Raises HttpError."""
        path = f"/v2/{repository}/manifests/{digest}"
        with self._ask("GET", path, {"accept": ", ".join(MANIFESTS)}) as answer:
            if answer.status != 200:
                raise _refused("GET", path, answer.status)
            return answer.read(), answer.headers.get("content-type", MANIFESTS[0])

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest and every tag that names it. Raises HttpError."""
        path = f"/v2/{repository}/manifests/{digest}"
        with self._ask("DELETE", path) as answer:
            # 404: somebody else was faster.
            if answer.status not in {202, 404}:
                raise _refused("DELETE", path, answer.status)
        for tag, named in self.tags(repository).items():
            if named == digest:
                self.untag(repository, tag)

    def untag(self, repository: str, tag: str) -> None:
        """Remove a tag; the manifest stays."""
        shutil.rmtree(self._manifests(repository) / "tags" / tag, ignore_errors=True)

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> "http.client.HTTPResponse":
        try:
            return self.send(method, path, headers=headers or {})
        except (OSError, http.client.HTTPException) as error:
            raise HttpError(method, path, type(error).__name__) from error

    def _manifests(self, repository: str) -> Path:
        return self._storage / "docker/registry/v2/repositories" / repository / "_manifests"


class _Connection(http.client.HTTPConnection):
    """A connection to the registry's socket."""

    def __init__(self) -> None:
        super().__init__("registry", timeout=_TIMEOUT)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)

        # A relative path: a socket's path has at most 107 bytes, a folder's
        # may have more.
        self.sock.connect(_SOCKET)


def _refused(method: str, path: str, status: int) -> HttpError:
    return HttpError(method, path, f"answered {status}", status=status)


def _config(storage: Path) -> dict[str, Any]:
    return {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        # The secret signs the state of uploads. Without one, the registry
        # logs a warning.
        "http": {"net": "unix", "addr": _SOCKET, "secret": "sandbox"},
    }
