"""The dbt image in containers as Fargate runs them: read-only, with the volumes that the image
declares, and the variables of the task definition.
"""

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ended:
    status: int
    text: str
    # What `docker inspect` shows of the container.
    inspected: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines() if line.startswith('{"time"')]

    def steps(self, key: str = "status") -> dict[str, Any]:
        """Step → one field of its line."""
        found = (event for event in self.events if event["event"] == "step")
        return {event["step"].split()[0]: event.get(key) for event in found}


@dataclass(frozen=True, kw_only=True)
class DbtImage:
    """An image at a daemon. Containers share the machine's network, where AWS is."""

    # docker.DockerClient
    engine: Any
    image: str
    # Variables that every container gets.
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(
        self, *command: str, volumes: Mapping[str, Any] | None = None, **environment: str
    ) -> Any:
        return self.engine.containers.run(
            self.image,
            list(command) or None,
            detach=True,
            network_mode="host",
            read_only=True,
            cap_drop=["ALL"],
            volumes=dict(volumes or {}),
            environment={**self.environment, **environment},
        )

    def run(self, *command: str, **environment: str) -> Ended:
        return self.wait(self.start(*command, volumes=None, **environment))

    def wait(self, container: Any) -> Ended:
        """Wait for the container's end, and remove it with its volumes."""
        try:
            status = container.wait(timeout=180)["StatusCode"]
            inspected = json.dumps(self.engine.api.inspect_container(container.id))
            return Ended(status, container.logs().decode(), inspected)
        finally:
            container.remove(force=True, v=True)

    def program(self, script: str) -> str:
        """The output of a Python script in the image, without the entry point."""
        container = self.engine.containers.run(
            self.image, ["-c", script], entrypoint=["python"], network_disabled=True, detach=True
        )
        try:
            assert container.wait(timeout=60)["StatusCode"] == 0, container.logs().decode()
            return str(container.logs().decode())
        finally:
            container.remove(force=True, v=True)

    def layers(self) -> bytes:
        """All layers and the configuration, as `docker save` writes them."""
        return b"".join(self.engine.images.get(self.image).save())


def files_of(container: Any, folder: str) -> dict[str, bytes]:
    """Path → content of the files in a folder of a container, running or not."""
    chunks, _ = container.get_archive(folder)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        return {
            member.name: read.read()
            for member in tar
            if member.isfile() and (read := tar.extractfile(member)) is not None
        }
