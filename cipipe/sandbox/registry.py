"""The image registry: Distribution's own server on loopback, its storage in the sandbox's folder.

What its HTTP API cannot do (untag, list untagged manifests) is done in that storage; its layout is documented:
https://github.com/distribution/distribution/blob/release/2.8/registry/storage/paths.go
"""

import json
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cipipe.errors import StageError
from cipipe.tools import http, process

PROGRAMS = ("docker-registry", "registry")

MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)


class Registry:
    """A running registry: `host` is what stands before the first slash of an image name."""

    def __init__(self, host: str, storage: Path, service: process.Service) -> None:
        self.host = host
        self._url = f"http://{host}/v2"
        self._storage = storage
        self._service = service

    @classmethod
    def start(cls, folder: Path, env: Mapping[str, str], program: str) -> "Registry":
        """Start one with empty storage below `folder`; call `wait` before using it."""
        storage = folder / "registry"
        shutil.rmtree(storage, ignore_errors=True)
        storage.mkdir(parents=True)
        # The registry binds its port itself; between here and there another process could take it, and then it ends.
        with socket.create_server(("127.0.0.1", 0)) as probe:
            host = f"127.0.0.1:{probe.getsockname()[1]}"
        config = folder / "registry.json"
        config.write_text(json.dumps(_config(storage, host)))
        argv = [program, "serve", str(config)]
        return cls(host, storage, process.start(argv, env=env, log=folder / "registry.log", guarded=True))

    def wait(self, timeout: float = 20.0) -> None:
        """Until it answers. Raises StageError."""
        ends = time.monotonic() + timeout
        while self._service.returncode is None and time.monotonic() < ends:
            try:
                if http.request("GET", f"{self._url}/", timeout=2).status == 200:
                    return
            except http.HttpError:
                time.sleep(0.03)
        raise StageError("sandbox-not-started", f"the image registry did not start:\n{self._service.tail()}")

    def stop(self) -> None:
        self._service.stop()

    def digests(self, repository: str) -> list[str]:
        """Every manifest that the repository holds, tagged or not."""
        found = self._manifests(repository).glob("revisions/sha256/*/link")
        return sorted(link.read_text().strip() for link in found)

    def tags(self, repository: str) -> dict[str, str]:
        """Each tag with the digest that it names."""
        found = self._manifests(repository).glob("tags/*/current/link")
        return {link.parent.parent.name: link.read_text().strip() for link in sorted(found)}

    def pushed_at(self, repository: str, digest: str) -> float:
        return (self._manifests(repository) / "revisions/sha256" / digest[7:] / "link").stat().st_mtime

    def manifest(self, repository: str, digest: str) -> tuple[bytes, str]:
        """A manifest and its media type. Raises HttpError."""
        url = f"{self._url}/{repository}/manifests/{digest}"
        answer = http.request("GET", url, headers={"Accept": ", ".join(MANIFESTS)})
        if answer.status != 200:
            raise http.HttpError("GET", url, f"answered {answer.status}", answer.status)
        return answer.body, answer.headers.get("content-type", MANIFESTS[0])

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest and every tag that names it. Raises HttpError."""
        url = f"{self._url}/{repository}/manifests/{digest}"
        answer = http.request("DELETE", url)
        if answer.status not in {202, 404}:
            raise http.HttpError("DELETE", url, f"answered {answer.status}", answer.status)
        for tag, named in self.tags(repository).items():
            if named == digest:
                self.untag(repository, tag)

    def untag(self, repository: str, tag: str) -> None:
        """Take a tag away; the manifest stays."""
        shutil.rmtree(self._manifests(repository) / "tags" / tag, ignore_errors=True)

    def _manifests(self, repository: str) -> Path:
        return self._storage / "docker/registry/v2/repositories" / repository / "_manifests"


def _config(storage: Path, host: str) -> dict[str, Any]:
    return {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        "http": {"addr": host, "secret": "sandbox"},
    }
