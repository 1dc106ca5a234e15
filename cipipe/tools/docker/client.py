"""The one door to Docker: wait for the daemon, build, run, push. The Docker SDK is imported when
first needed.

Source: docker-py.readthedocs.io; docs.docker.com/reference/api/engine.
"""

import contextlib
import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cipipe.errors import StageError
from cipipe.interrupt import Interrupt
from cipipe.redact import Redactor
from cipipe.tools.docker import host as docker_host
from cipipe.tools.docker.context import context

if TYPE_CHECKING:
    from cipipe.tools.docker.buildkit import Build

__all__ = ["Docker", "context"]

_REPORTED_EACH = 10
"""Seconds between two lines that say what is waited for."""


@dataclass(frozen=True)
class Docker:
    """A daemon, found as Docker's own client finds it (`DOCKER_HOST`, `DOCKER_TLS_VERIFY`,
    `DOCKER_CERT_PATH`).
    """

    env: Mapping[str, str]
    redactor: Redactor
    line: Callable[[str], None]
    interrupt: Interrupt
    _answers: list[Any] = field(default_factory=list, init=False)

    def wait(self, seconds: int) -> None:
        """Wait until the daemon answers: Docker-in-Docker starts later than the job. Raises
        StageError.

        Only what may pass is waited for; settings that cannot work are reported at once.
        """
        found = docker_host.address(self.env)
        started = time.monotonic()
        reported = -math.inf
        while True:
            elapsed = time.monotonic() - started
            try:
                self._connect(found)
            except docker_host.NotYet as reason:
                if elapsed + 1 >= min(seconds, reason.patience):
                    error = reason.error or docker_host.unreachable(
                        found, f" after {seconds} s: {reason}"
                    )
                    raise error from reason
                if elapsed - reported >= _REPORTED_EACH:
                    reported = elapsed
                    self.line(f"waiting for the Docker daemon at {found.url}: {reason}")
                self.interrupt.sleep(1)
            else:
                return

    def version(self) -> str:
        """The daemon's version. Raises StageError where none answers."""
        found = docker_host.address(self.env)
        try:
            self._connect(found)
            with _translated(f"docker version at {found.url}", "docker-unreachable"):
                return str(self._client.version()["Version"])
        except docker_host.NotYet as reason:
            raise reason.error or docker_host.unreachable(found, f": {reason}") from reason

    def _connect(self, found: docker_host.Address) -> None:
        """Ask the daemon once; the client is made for the version of the API that it has. Raises
        NotYet, StageError.
        """
        import docker.errors
        import requests

        if found.tls is not None:
            docker_host.check_files(found.tls, self.env)
        if found.can_be_tried:
            version = docker_host.ping(found)
            self.__dict__["_client"] = self._made(found, version)
            return
        self.__dict__.pop("_client", None)
        try:
            self._client.ping()
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise docker_host.NotYet(str(error)) from error

    def build(self, context: bytes, wanted: "Build") -> None:
        """Build from a tar with the classic builder, and give each line that the daemon sends."""
        what = f"docker build of {wanted.tag}"
        with self._cut_short(), _translated(what, "docker-build-failed"):
            answers = self._client.api.build(
                fileobj=io.BytesIO(context),
                custom_context=True,
                dockerfile=wanted.dockerfile,
                tag=wanted.tag,
                buildargs=dict(wanted.build_args),
                labels=dict(wanted.labels),
                platform=wanted.platform,
                network_mode=wanted.network,
                rm=True,
                forcerm=True,
                decode=True,
            )
            self._hear(answers, what, "docker-build-failed")

    def run(self, image: str, argv: Sequence[str]) -> None:
        """Run a command in the image, without network, and say what it prints. Raises StageError
        on a bad status.
        """
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
                with contextlib.suppress(
                    Exception
                ):  # what matters has been said; the daemon may be gone
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
            answers = self._client.api.push(
                repository, tag=tag, stream=True, decode=True, auth_config=login
            )
            digest = self._hear(answers, what, "docker-push-failed")
        if digest is None:
            raise StageError(
                "docker-push-failed", f"the registry told no digest for {repository}:{tag}"
            )
        return digest

    @cached_property
    def _client(self) -> Any:
        found = docker_host.address(self.env)
        try:
            return self._made(found, docker_host.ping(found) if found.can_be_tried else None)
        except docker_host.NotYet as reason:
            raise reason.error or docker_host.unreachable(found, f": {reason}") from reason

    def _made(self, found: docker_host.Address, version: str | None) -> Any:
        """The SDK's client. With a version it asks nothing while it is made."""
        import docker
        import urllib3
        from docker.constants import DEFAULT_DOCKER_API_VERSION
        from docker.tls import TLSConfig

        if found.can_be_tried:
            tls = found.tls and TLSConfig(
                client_cert=(found.tls.file("cert.pem"), found.tls.file("key.pem")),
                ca_cert=found.tls.file("ca.pem"),
                verify=found.tls.verify,
            )
            version = version or DEFAULT_DOCKER_API_VERSION
            if found.tls and not found.tls.verify:
                urllib3.disable_warnings(
                    urllib3.exceptions.InsecureRequestWarning
                )  # the settings say so
            made = docker.DockerClient(
                base_url=found.url, version=version, tls=tls or False, timeout=600
            )
        else:
            made = docker.from_env(environment=dict(self.env), timeout=600)
        # Else REQUESTS_CA_BUNDLE replaces the daemon's CA, and a proxy is asked for the daemon.
        made.api.trust_env = False
        made.api.hooks["response"].append(self._answering)
        return made

    def _answering(self, response: Any, **_: Any) -> None:
        self._answers.append(response)

    @contextlib.contextmanager
    def _cut_short(self) -> Iterator[None]:
        """An interrupt closes the connection, upon which the daemon stops a build; no thread waits
        for a silent step.
        """
        from docker.errors import DockerException
        from docker.types import CancellableStream

        def cut() -> None:
            # An answer that has just ended has no connection, and one through SSH none that can be
            # closed.
            with contextlib.suppress(AttributeError, DockerException, IndexError, OSError):
                CancellableStream(iter(()), self._answers[-1]).close()

        self._answers.clear()
        with self.interrupt.stopping(cut):
            yield

    def _hear(self, answers: Iterable[dict[str, Any]], what: str, error_id: str) -> str | None:
        """Say a stream of the daemon's answers; gives the digest, where one was told. An `error`
        in it is raised.
        """
        digest: str | None = None
        said: set[tuple[str | None, str]] = set()
        for answer in answers:
            self.interrupt.check()
            if "error" in answer:
                raise StageError(
                    error_id, f"{what} failed: {self.redactor.text(str(answer['error'])).strip()}"
                )
            digest = (answer.get("aux") or {}).get("Digest", digest)
            for text in str(answer.get("stream", "")).splitlines():
                if text.strip():
                    self.line(self.redactor.text(text))
            status, layer = str(answer.get("status", "")), answer.get("id")
            if (
                status and (layer, status) not in said
            ):  # a layer's progress bar repeats its status many times
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
    except (
        docker.errors.DockerException,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as error:
        hint = "The Docker daemon stopped answering. Its own log says why."
        raise StageError(error_id, f"{what} failed: {error}", hint=hint) from error
