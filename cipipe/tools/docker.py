"""The one door to Docker: wait for the daemon, build, run, push. The Docker SDK is imported when first needed.

Source: docker-py.readthedocs.io; docs.docker.com/reference/api/engine.
"""

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cipipe.errors import StageError
from cipipe.interrupt import Interrupt
from cipipe.redact import Redactor
from cipipe.tools.context import context

__all__ = ["Docker", "context"]


@dataclass(frozen=True)
class Docker:
    """A daemon, found as Docker's own client finds it (`DOCKER_HOST`, `DOCKER_TLS_VERIFY`, `DOCKER_CERT_PATH`)."""

    env: Mapping[str, str]
    redactor: Redactor
    line: Callable[[str], None]
    interrupt: Interrupt
    _answers: list[Any] = field(default_factory=list, init=False)

    def wait(self, seconds: int) -> None:
        """Wait until the daemon answers: Docker-in-Docker starts later than the job. Raises StageError."""
        import docker.errors
        import requests

        last: Exception | None = None
        for second in range(seconds):
            try:
                self._client.ping()
            except (docker.errors.DockerException, requests.RequestException, OSError) as error:
                self.__dict__.pop("_client", None)
                last = error
                if second % 10 == 0:
                    self.line(f"waiting for the Docker daemon at {self._host}")
                self.interrupt.sleep(1)
            else:
                return
        raise StageError(
            "docker-unreachable",
            f"no Docker daemon answers at {self._host} after {seconds} s: {last}",
            hint="In a job, add the service docker:dind and set DOCKER_HOST; on a laptop, start Docker.",
        )

    def version(self) -> str:
        """The daemon's version. Raises StageError where none answers."""
        import docker.errors
        import requests

        try:
            return str(self._client.version()["Version"])
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise StageError(
                "docker-unreachable",
                f"no Docker daemon answers at {self._host}: {type(error).__name__}",
                hint="In a GitLab job, add the service docker:dind and set DOCKER_HOST; on a laptop, start Docker.",
            ) from error

    def build(
        self,
        context: bytes,
        *,
        dockerfile: str,
        tag: str,
        build_args: Mapping[str, str],
        labels: Mapping[str, str],
        platform: str | None,
        network: str | None,
    ) -> None:
        """Build from a tar, and say each line that the daemon says."""
        with self._cut_short(), _translated(f"docker build of {tag}", "docker-build-failed"):
            answers = self._client.api.build(
                fileobj=io.BytesIO(context),
                custom_context=True,
                dockerfile=dockerfile,
                tag=tag,
                buildargs=dict(build_args),
                labels=dict(labels),
                platform=platform,
                network_mode=network,
                rm=True,
                forcerm=True,
                decode=True,
            )
            self._hear(answers, f"docker build of {tag}", "docker-build-failed")

    def run(self, image: str, argv: Sequence[str]) -> None:
        """Run a command in the image, without network, and say what it prints. Raises StageError on a bad status."""
        with self._cut_short(), _translated(f"docker run of {image}", "docker-smoke-failed"):
            container = self._client.containers.create(image, list(argv), network_disabled=True)
            try:
                container.start()
                for text in self.redactor.lines(
                    chunk.decode(errors="replace") for chunk in container.logs(stream=True)
                ):
                    self.line(text)
                status = container.wait()["StatusCode"]
            finally:
                with contextlib.suppress(Exception):  # what matters has been said; the daemon may be gone
                    container.remove(force=True)
        if status != 0:
            raise StageError(
                "docker-smoke-failed",
                f"`{' '.join(argv)}` in {image} ended with exit status {status}",
                hint="The lines above are its own. The image was not pushed.",
            )

    def push(self, repository: str, tag: str, *, username: str, password: str) -> str:
        """Push one tag; gives the digest (`sha256:…`) that the registry knows it by."""
        what = f"docker push of {repository}:{tag}"
        with self._cut_short(), _translated(what, "docker-push-failed"):
            login = {"username": username, "password": password}
            answers = self._client.api.push(repository, tag=tag, stream=True, decode=True, auth_config=login)
            digest = self._hear(answers, what, "docker-push-failed")
        if digest is None:
            raise StageError("docker-push-failed", f"the registry told no digest for {repository}:{tag}")
        return digest

    @property
    def _host(self) -> str:
        return self.env.get("DOCKER_HOST", "the default socket")

    @cached_property
    def _client(self) -> Any:
        import docker

        made = docker.from_env(environment=dict(self.env), timeout=600)
        made.api.hooks["response"].append(self._answering)
        return made

    def _answering(self, response: Any, **_: Any) -> None:
        self._answers.append(response)

    @contextlib.contextmanager
    def _cut_short(self) -> Iterator[None]:
        """An interrupt closes the connection, upon which the daemon stops a build; no thread waits for a silent step."""
        from docker.errors import DockerException
        from docker.types import CancellableStream

        def cut() -> None:
            # An answer that has just ended has no connection, and one through SSH none that can be closed.
            with contextlib.suppress(AttributeError, DockerException, IndexError, OSError):
                CancellableStream(iter(()), self._answers[-1]).close()

        self._answers.clear()
        with self.interrupt.stopping(cut):
            yield

    def _hear(self, answers: Iterable[dict[str, Any]], what: str, error_id: str) -> str | None:
        """Say a stream of the daemon's answers; gives the digest, where one was told. An `error` in it is raised."""
        digest: str | None = None
        said: set[tuple[str | None, str]] = set()
        for answer in answers:
            self.interrupt.check()
            if "error" in answer:
                raise StageError(error_id, f"{what} failed: {self.redactor.text(str(answer['error'])).strip()}")
            digest = (answer.get("aux") or {}).get("Digest", digest)
            for text in str(answer.get("stream", "")).splitlines():
                if text.strip():
                    self.line(self.redactor.text(text))
            status, layer = str(answer.get("status", "")), answer.get("id")
            if status and (layer, status) not in said:  # a layer's progress bar repeats its status many times
                said.add((layer, status))
                self.line(self.redactor.text(f"{layer}: {status}" if layer else status))
        return digest


@contextlib.contextmanager
def _translated(what: str, error_id: str) -> Iterator[None]:
    """The SDK's errors, and a daemon that went away, as ours."""
    import docker.errors
    import requests
    import urllib3.exceptions

    try:
        yield
    except docker.errors.APIError as error:
        raise StageError(error_id, f"{what} failed: {error.explanation or error}") from error
    except (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        hint = "The Docker daemon stopped answering. Its own log says why."
        raise StageError(error_id, f"{what} failed: {error}", hint=hint) from error
