"""Where the Docker daemon is: `DOCKER_HOST` and the TLS variables, read as
Docker's client does.

https://docs.docker.com/reference/cli/docker/#environment-variables
https://docs.docker.com/engine/security/protect-access
"""

import math
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cipipe.errors import StageError

DEFAULT_SOCKET = "/var/run/docker.sock"


class NotYet(Exception):
    """No daemon answers, but one may in a moment: docker:dind starts later than the job."""

    def __init__(
        self, reason: str, *, error: StageError | None = None, patience: float = math.inf
    ) -> None:
        super().__init__(reason)
        # What is wrong if it stays like this, where that is known.
        self.error = error
        # Seconds after which waiting is pointless.
        self.patience = patience


class Tls(msgspec.Struct, frozen=True):
    """TLS with certificates on both sides."""

    # Has `ca.pem`, `cert.pem` and `key.pem`.
    folder: Path
    # Whether the daemon's certificate is checked.
    verify: bool

    def file(self, name: str) -> str:
        return str(self.folder / name)


class Address(msgspec.Struct, frozen=True):
    """Where the daemon is: at a socket, or at a host and port.

    With neither it is a kind that only the SDK knows, such as `ssh://`.
    """

    # What DOCKER_HOST says.
    url: str
    path: str = ""
    host: str = ""
    port: int = 0
    # None: without TLS.
    tls: Tls | None = None

    @property
    def can_be_tried(self) -> bool:
        return bool(self.path or self.host)


def address(env: Mapping[str, str]) -> Address:
    """The address that the environment names. Raises StageError."""
    url = env.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}"
    scheme, _, rest = url.rpartition("://")
    if scheme == "unix":
        return Address(url, path=rest or DEFAULT_SOCKET)
    if scheme not in {"", "tcp", "http"}:
        return Address(url)
    if rest.startswith("/"):
        raise StageError(
            "docker-host",
            f"DOCKER_HOST is {url!r}, which is a path and not an address",
            hint=f"Write it as unix://{rest}.",
        )

    tls = _tls(env)
    default_port = 2376 if tls else 2375
    try:
        parts = urllib.parse.urlsplit(f"//{rest}")
        host = parts.hostname or "127.0.0.1"
        port = parts.port or default_port
    except ValueError as error:
        raise StageError(
            "docker-host",
            f"DOCKER_HOST is {url!r}, which is not an address: {error}",
            hint="Write it as tcp://HOST:PORT or unix:///PATH.",
        ) from error
    return Address(url, host=host, port=port, tls=tls)


def _tls(env: Mapping[str, str]) -> Tls | None:
    # Either variable turns TLS on; only the first has the daemon's
    # certificate checked.
    verify = bool(env.get("DOCKER_TLS_VERIFY"))
    folder = env.get("DOCKER_CERT_PATH")
    if folder:
        return Tls(Path(folder), verify)
    if verify:
        return Tls(Path(env.get("HOME", "~")).expanduser() / ".docker", verify)
    return None
