"""The image registry: Distribution's own server on a socket in the sandbox's folder, its storage
beside it.

What its HTTP API cannot do (untag, list untagged manifests) is done in that storage; its layout is
documented: https://github.com/distribution/distribution/blob/release/2.8/registry/storage/paths.go
"""

import http.client
import json
import shutil
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cipipe.errors import StageError
from cipipe.tools import process
from cipipe.tools.http import HttpError

PROGRAMS = ("docker-registry", "registry")

MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
_SOCKET = "registry.sock"
_TIMEOUT = 600.0


class RegistryServer:
    """A running registry. `host`, set by whoever serves it, is what stands before the first slash
    of an image name.
    """

    def __init__(self, storage: Path, service: process.Service) -> None:
        self.host = ""
        self._storage = storage
        self._service = service

    @classmethod
    def start(cls, folder: Path, env: Mapping[str, str], program: str) -> "RegistryServer":
        """Start one with empty storage below `folder`, where this process works; call `wait` before
        using it.
        """
        storage = folder / "registry"
        shutil.rmtree(storage, ignore_errors=True)
        storage.mkdir(parents=True)
        (folder / _SOCKET).unlink(missing_ok=True)
        config = folder / "registry.json"
        config.write_text(json.dumps(_config(storage)))
        argv = [program, "serve", str(config)]
        log = folder / "registry.log"
        return cls(storage, process.start(argv, env=env, log=log, cwd=folder, guarded=True))

    def wait(self, timeout: float = 20.0) -> None:
        """Until it answers. Raises StageError."""
        ends = time.monotonic() + timeout
        while self._service.returncode is None and time.monotonic() < ends:
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
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None,
    ) -> "http.client.HTTPResponse":
        """Pass a request on; a body without a `content-length` is sent in chunks. Raises OSError,
        HTTPException.
        """
        chunked = "content-length" not in headers and not isinstance(body, bytes | None)
        # With `close` the socket is the answer's alone: it is closed when that has been read, or is
        # closed.
        sent = {
            **headers,
            "connection": "close",
            **({"transfer-encoding": "chunked"} if chunked else {}),
        }
        connection = _Connection()
        try:
            connection.request(method, target, body, sent, encode_chunked=chunked)
            return connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def digests(self, repository: str) -> list[str]:
        """Every manifest that the repository holds, tagged or not."""
        found = self._manifests(repository).glob("revisions/sha256/*/link")
        return sorted(link.read_text().strip() for link in found)

    def tags(self, repository: str) -> dict[str, str]:
        """Each tag with the digest that it names."""
        found = self._manifests(repository).glob("tags/*/current/link")
        return {link.parent.parent.name: link.read_text().strip() for link in sorted(found)}

    def pushed_at(self, repository: str, digest: str) -> float:
        return (
            (self._manifests(repository) / "revisions/sha256" / digest[7:] / "link").stat().st_mtime
        )

    def manifest(self, repository: str, digest: str) -> tuple[bytes, str]:
        """A manifest and its media type. Raises HttpError."""
        path = f"/v2/{repository}/manifests/{digest}"
        with self._ask("GET", path, {"accept": ", ".join(MANIFESTS)}) as answer:
            if answer.status != 200:
                raise HttpError("GET", path, f"answered {answer.status}", answer.status)
            return answer.read(), answer.headers.get("content-type", MANIFESTS[0])

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest and every tag that names it. Raises HttpError."""
        path = f"/v2/{repository}/manifests/{digest}"
        with self._ask("DELETE", path) as answer:
            if answer.status not in {202, 404}:
                raise HttpError("DELETE", path, f"answered {answer.status}", answer.status)
        for tag, named in self.tags(repository).items():
            if named == digest:
                self.untag(repository, tag)

    def untag(self, repository: str, tag: str) -> None:
        """Take a tag away; the manifest stays."""
        shutil.rmtree(self._manifests(repository) / "tags" / tag, ignore_errors=True)

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> "http.client.HTTPResponse":
        try:
            return self.send(method, path, headers or {}, None)
        except (OSError, http.client.HTTPException) as error:
            raise HttpError(method, path, type(error).__name__) from error

    def _manifests(self, repository: str) -> Path:
        return self._storage / "docker/registry/v2/repositories" / repository / "_manifests"


class _Connection(http.client.HTTPConnection):
    """To the registry's socket, by a relative path: a socket's path has at most 107 bytes, a
    folder's may have more.
    """

    def __init__(self) -> None:
        super().__init__("registry", timeout=_TIMEOUT)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(_SOCKET)


def _config(storage: Path) -> dict[str, Any]:
    return {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        "http": {"net": "unix", "addr": _SOCKET, "secret": "sandbox"},
    }
