"""The client of Docker: wait for the daemon, build, run, push.

Docker's SDK is imported with the first use. https://docker-py.readthedocs.io,
https://docs.docker.com/reference/api/engine
"""

import contextlib
import io
import math
import re
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from cipipe.errors import StageError
from cipipe.interrupt import Interrupt
from cipipe.redact import Redactor
from cipipe.tools.docker import address as docker_address
from cipipe.tools.docker.address import Address, NotYet
from cipipe.tools.docker.certificates import check_files
from cipipe.tools.docker.context import context
from cipipe.tools.docker.failures import failure, lost
from cipipe.tools.docker.ping import ping, unreachable
from cipipe.tools.docker.probe import Probe, ProbeResult, probe
from cipipe.tools.docker.progress import ClassicProgress
from cipipe.tools.docker.smoke import Smoke, smoke

if TYPE_CHECKING:
    from cipipe.tools.docker.buildkit import Build

__all__ = ["Docker", "context"]

# Seconds between two lines of progress while waiting.
_REPORT_INTERVAL = 10

# Seconds for one answer of the daemon, which does not answer while it
# builds a slow step.
_TIMEOUT = 600

# A daemon with containerd's image store says the digest of what it has pushed
# for people only.
_DIGEST = re.compile(r"\S+: digest: (sha256:[0-9a-f]{64}) size: \d+")


class ImageOnDaemon(msgspec.Struct, frozen=True):
    """An image as the daemon knows it."""

    # `sha256:…` of its configuration.
    id: str
    # Bytes.
    size: int
    # How a container of it starts.
    configuration: Mapping[str, Any]
    # What registries call it: `REPOSITORY@sha256:…`, as people write it.
    digests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Docker:
    """A daemon, found as Docker's own client finds it."""

    # Has `DOCKER_HOST`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`.
    env: Mapping[str, str]
    redactor: Redactor
    # Gets each line of progress.
    line: Callable[[str], None]
    interrupt: Interrupt
    # The answers that the SDK is reading: an interrupt closes the last one.
    _answers: list[Any] = field(default_factory=list, init=False)

    def wait(self, seconds: int) -> None:
        """Wait until the daemon answers: docker:dind starts later than the
        job.

        Settings that cannot work are reported at once. Raises StageError.
        """
        found = docker_address.address(self.env)
        started = time.monotonic()
        reported = -math.inf
        while True:
            elapsed = time.monotonic() - started
            try:
                self._connect(found)
            except NotYet as reason:
                if elapsed + 1 >= min(seconds, reason.patience):
                    after = f" after {seconds} s: {reason}"
                    raise reason.error or unreachable(found, after) from reason
                if elapsed - reported >= _REPORT_INTERVAL:
                    reported = elapsed
                    self.line(f"waiting for the Docker daemon at {found.url}: {reason}")
                self.interrupt.sleep(1)
            else:
                return

    def version(self) -> str:
        """The daemon's version. Raises StageError."""
        found = docker_address.address(self.env)
        try:
            self._connect(found)
            with _translated(f"docker version at {found.url}", "docker-unreachable"):
                return str(self._client.version()["Version"])
        except NotYet as reason:
            raise reason.error or unreachable(found, f": {reason}") from reason

    def data_root(self) -> str:
        """The folder of its images, on its own machine. Raises StageError."""
        with _translated("docker info", "docker-unreachable"):
            return str(self._client.info()["DockerRootDir"])

    def _connect(self, found: Address) -> None:
        """Ask the daemon once, and make a client for its version of the
        API.

        Raises NotYet, StageError.
        """
        import docker.errors
        import requests

        if found.tls is not None:
            check_files(found.tls, self.env)
        if found.can_be_tried:
            version = ping(found)
            # Fills the cache of the property.
            self.__dict__["_client"] = self._made(found, version)
            return

        # Only the SDK can tell whether such a daemon answers. It asks while
        # the client is made, so an earlier client is of no use.
        self.__dict__.pop("_client", None)
        try:
            self._client.ping()
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise NotYet(str(error)) from error

    def build(self, context: bytes, wanted: "Build") -> None:
        """Build from a tar with the classic builder."""
        what = f"docker build of {wanted.tag}"
        with self._cut_short(), _translated(what, "docker-build-failed"):
            answers = self._client.api.build(
                fileobj=io.BytesIO(context),
                custom_context=True,
                dockerfile=wanted.dockerfile,
                tag=wanted.tag,
                buildargs=dict(wanted.build_args),
                labels=dict(wanted.labels),
                target=wanted.target or "",
                cache_from=list(wanted.cache_from),
                platform=wanted.platform,
                network_mode=wanted.network,
                rm=True,
                forcerm=True,
                decode=True,
            )
            progress = ClassicProgress(self.line)
            try:
                self._read(answers, what, "docker-build-failed", line=progress.read)
            except StageError as error:
                where = wanted.lines.get(progress.step) if progress.step else None
                tail = "".join(f"\n{text}" for text in progress.output)
                raise StageError(
                    error.id, f"{error.message}{tail}", hint=error.hint, where=where
                ) from error

    def described(self, image: str) -> "ImageOnDaemon":
        """What the daemon says of an image. Raises StageError."""
        with _translated(f"docker image inspect {image}", "docker-unreachable"):
            found = self._client.api.inspect_image(image)
        size = int(found.get("Size") or 0)
        digests = tuple(found.get("RepoDigests") or ())
        return ImageOnDaemon(str(found["Id"]), size, found.get("Config") or {}, digests)

    @contextlib.contextmanager
    def exported(self, image: str) -> Iterator[tarfile.TarFile]:
        """The file system of a container of the image, which is not
        started, as a tar that is read once from start to end.

        Raises StageError.
        """
        with _translated(f"docker export of {image}", "docker-unreachable"):
            # A command is required, and never run.
            container = self._client.containers.create(image, ["/none"], network_disabled=True)
            try:
                stream = _Stream(container.export())
                with tarfile.open(fileobj=stream, mode="r|") as archive:
                    yield archive
            finally:
                with contextlib.suppress(Exception):
                    container.remove(force=True)

    def pull(self, reference: str, *, username: str, password: str) -> None:
        """Pull an image. Raises StageError."""
        what = f"docker pull of {reference}"
        repository, _, digest = reference.partition("@")
        with self._cut_short(), _translated(what, "docker-pull-failed"):
            answers = self._client.api.pull(
                repository,
                tag=digest,
                stream=True,
                decode=True,
                auth_config={"username": username, "password": password},
            )
            self._read(answers, what, "docker-pull-failed", line=lambda _: None)

    def run(
        self, image: str, argv: Sequence[str], *, timeout: int = 300, memory: int | None = None
    ) -> None:
        """Run a command in the image, for at most `timeout` seconds and with
        at most `memory` MiB, and pass on what it prints.

        Raises StageError where it fails.
        """
        with _translated(f"docker run of {image}", "docker-smoke-failed"):
            smoke(
                self._client,
                Smoke(image=image, argv=argv, timeout=timeout, memory=memory),
                redactor=self.redactor,
                line=self.line,
                interrupt=self.interrupt,
            )

    def probe(self, image: str, *, shown: bool = False, **given: Any) -> ProbeResult:
        """Run a command in the image to get a file from it: the fields of
        `Probe`. `shown`: pass on what it prints. Raises StageError where
        Docker cannot run it.
        """
        from docker.errors import NotFound

        wanted = Probe(image=image, **given)
        lines = self._shown if shown else None
        with _translated(f"docker run of {image}", "docker-unreachable"):
            return probe(self._client, wanted, self.interrupt, missing=NotFound, lines=lines)

    def _shown(self, chunks: Iterator[str]) -> Iterator[str]:
        for text in self.redactor.lines(chunks):
            self.line(text)
            yield text

    def push(self, repository: str, tag: str, *, username: str, password: str) -> str:
        """Push one tag; returns the digest (`sha256:…`) that it has in the registry."""
        what = f"docker push of {repository}:{tag}"
        with self._cut_short(), _translated(what, "docker-push-failed"):
            login = {"username": username, "password": password}
            answers = self._client.api.push(
                repository, tag=tag, stream=True, decode=True, auth_config=login
            )
            digest = self._read(answers, what, "docker-push-failed")
        if digest is None:
            raise StageError(
                "docker-push-failed", f"the registry returned no digest for {repository}:{tag}"
            )
        return digest

    @cached_property
    def _client(self) -> Any:
        found = docker_address.address(self.env)
        try:
            return self._made(found, ping(found) if found.can_be_tried else None)
        except NotYet as reason:
            raise reason.error or unreachable(found, f": {reason}") from reason

    def _made(self, found: Address, version: str | None) -> Any:
        """The SDK's client. With a version of the API, making it sends no request."""
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
                # The settings turned verification off: a warning for each
                # request says nothing new.
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            made = docker.DockerClient(
                base_url=found.url, version=version, tls=tls or False, timeout=_TIMEOUT
            )
            if found.tls:
                from cipipe.tools.docker.adapter import TlsAdapter

                made.api.mount("https://", TlsAdapter(found.tls))
        else:
            made = docker.from_env(environment=dict(self.env), timeout=_TIMEOUT)
        # Otherwise REQUESTS_CA_BUNDLE replaces the daemon's CA, and
        # requests go through a proxy.
        made.api.trust_env = False
        made.api.hooks["response"].append(self._answering)
        return made

    def _answering(self, response: Any, **_: Any) -> None:
        self._answers.append(response)

    @contextlib.contextmanager
    def _cut_short(self) -> Iterator[None]:
        """While this lasts, an interrupt closes the connection to the
        daemon.

        The daemon stops a build then, and no thread waits for a step that
        prints nothing.
        """
        from docker.errors import DockerException
        from docker.types import CancellableStream

        def cut() -> None:
            # An answer that was just read completely has no connection any
            # more, and one through SSH has none that can be closed.
            with contextlib.suppress(AttributeError, DockerException, IndexError, OSError):
                CancellableStream(iter(()), self._answers[-1]).close()

        self._answers.clear()
        with self.interrupt.stopping(cut):
            yield

    def _read(
        self,
        answers: Iterable[dict[str, Any]],
        what: str,
        error_id: str,
        line: Callable[[str], None] | None = None,
    ) -> str | None:
        """Pass on the daemon's progress; returns the digest in it, if any. Raises StageError."""
        line = line or self.line
        digest: str | None = None
        # A layer's progress bar repeats its status many times.
        shown: set[tuple[str | None, str]] = set()
        remaining = iter(answers)
        for answer in remaining:
            self.interrupt.check()
            if "error" in answer:
                # It is the last one. Only a stream that was read to its end
                # gives its connection back.
                for _ in remaining:
                    pass
                reason = self.redactor.text(str(answer["error"])).strip()
                raise failure(what, reason, id=error_id)
            digest = (answer.get("aux") or {}).get("Digest", digest)
            for text in str(answer.get("stream", "")).splitlines():
                if text.strip():
                    line(self.redactor.text(text))

            status = str(answer.get("status", ""))
            if said := _DIGEST.fullmatch(status):
                digest = digest or said[1]
            layer = answer.get("id")
            if status and (layer, status) not in shown:
                shown.add((layer, status))
                line(self.redactor.text(f"{layer}: {status}" if layer else status))
        return digest


class _Stream(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


@contextlib.contextmanager
def _translated(what: str, error_id: str) -> Iterator[None]:
    """Raise the SDK's errors, and those of a daemon that went away, as ours."""
    import docker.errors
    import requests
    import urllib3.exceptions

    try:
        yield
    except docker.errors.APIError as error:
        reason = str(error.explanation or error)
        raise failure(what, reason, id=error_id) from error
    except (
        docker.errors.DockerException,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as error:
        raise lost(f"{what} failed: {error}") from error
