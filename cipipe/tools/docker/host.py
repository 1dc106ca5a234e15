"""Where the Docker daemon is, and whether it answers: what `DOCKER_HOST` and the TLS variables
say, tried with one request.

The SDK wraps every failure in the same error, so each kind is told apart here, before the SDK is
asked. What may pass by itself (a daemon that is still starting) is NotYet; everything else is a
StageError with a fix. Source: docs.docker.com/engine/security/protect-access,
docs.docker.com/reference/cli/docker/#environment-variables.
"""

import contextlib
import http.client
import math
import os
import socket
import ssl
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cipipe.errors import StageError

DEFAULT_SOCKET = "/var/run/docker.sock"
_FILES = ("ca.pem", "cert.pem", "key.pem")
_PATIENCE = 5.0
"""Seconds for one connection, and for its answer."""
_GRACE = 3.0
"""Seconds in which the rest of the certificates is written, once one of them is there."""


class NotYet(Exception):
    """No daemon answers, and one may in a moment: within `patience` seconds. After that it is
    `error`, if that is known.
    """

    def __init__(
        self, reason: str, *, error: StageError | None = None, patience: float = math.inf
    ) -> None:
        super().__init__(reason)
        self.error = error
        self.patience = patience


class Tls(msgspec.Struct, frozen=True):
    """The folder with `ca.pem`, `cert.pem` and `key.pem`; without `verify` the daemon's
    certificate is not checked.
    """

    folder: Path
    verify: bool

    def file(self, name: str) -> str:
        return str(self.folder / name)


class Address(msgspec.Struct, frozen=True):
    """`url` is what `DOCKER_HOST` says. With neither `path` nor `host` it is a kind that only the
    SDK knows (`ssh://`).
    """

    url: str
    path: str = ""
    host: str = ""
    port: int = 0
    tls: Tls | None = None

    @property
    def can_be_tried(self) -> bool:
        return bool(self.path or self.host)


def address(env: Mapping[str, str]) -> Address:
    """What the environment says, read as Docker's client reads it. Raises StageError."""
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
    try:
        split = urllib.parse.urlsplit(f"//{rest}")
        host, port = split.hostname or "127.0.0.1", split.port or (2376 if tls else 2375)
    except ValueError as error:
        raise StageError(
            "docker-host",
            f"DOCKER_HOST is {url!r}, which is not an address: {error}",
            hint="Write it as tcp://HOST:PORT or unix:///PATH.",
        ) from error
    return Address(url, host=host, port=port, tls=tls)


def _tls(env: Mapping[str, str]) -> Tls | None:
    verify, folder = bool(env.get("DOCKER_TLS_VERIFY")), env.get("DOCKER_CERT_PATH")
    if not verify and not folder:
        return None
    return Tls(
        Path(folder) if folder else Path(env.get("HOME", "~")).expanduser() / ".docker", verify
    )


def check_files(tls: Tls, env: Mapping[str, str]) -> None:
    """Raises NotYet where certificates are missing: docker:dind writes them, one after the other,
    when it starts.
    """
    wanted = _FILES if tls.verify else _FILES[1:]
    names = [name for name in wanted if not Path(tls.file(name)).is_file()]
    if not names:
        return
    what = " and ".join(names) if len(names) < 3 else "ca.pem, cert.pem and key.pem"
    named = bool(env.get("DOCKER_CERT_PATH"))
    where = (
        str(tls.folder)
        if named
        else f"{tls.folder}, where Docker looks if DOCKER_CERT_PATH is not set"
    )
    error = StageError(
        "docker-tls-settings",
        f"Docker is to be used with TLS, and {what} {'is' if len(names) == 1 else 'are'} not in {where}",
        hint="Set DOCKER_CERT_PATH to the folder with ca.pem, cert.pem and key.pem (with docker:dind, /certs/client, "
        "which the job and the service have to share); or unset DOCKER_TLS_VERIFY.",
        where=str(tls.folder),
    )
    patience = math.inf if len(names) == len(wanted) else _GRACE
    raise NotYet(error.message, error=error, patience=patience if named else 0)


def ping(found: Address) -> str | None:
    """Ask the daemon for its version of the API (None if it does not say). Raises NotYet,
    StageError.
    """
    context = tls_context(found.tls) if found.tls else None
    try:
        with _connected(found) as plain:
            if context is None:
                return _asked(plain, found)
            with context.wrap_socket(plain, server_hostname=found.host) as secured:
                return _asked(secured, found)
    except ssl.SSLCertVerificationError as error:
        raise StageError(
            "docker-tls-untrusted",
            f"the certificate of the Docker daemon at {found.url} is not trusted: {error.verify_message}",
            hint="DOCKER_CERT_PATH has to hold the ca.pem of this very daemon, and DOCKER_HOST the name in its certificate.",
            where=found.tls.file("ca.pem") if found.tls else None,
        ) from error
    except ssl.SSLError as error:
        raise _tls_failed(found, error) from error
    except PermissionError as error:
        raise StageError(
            "docker-permission",
            f"this user may not use the Docker daemon's socket {found.path}",
            hint="Add the user to the group that owns the socket (`docker`) and log in again, or run as root.",
            where=found.path,
        ) from error
    except (http.client.HTTPException, OSError) as error:
        if found.tls and _answers_plainly(found):
            raise _without_tls(found) from error
        if found.tls and (alert := _alert_of_handshake(found, found.tls)) is not None:
            raise _client_refused(found, alert) from error
        if not found.tls and found.host and _speaks_tls(found):
            raise _with_tls_only(found) from error
        raise NotYet(_reason(error)) from error


def tls_context(tls: Tls) -> ssl.SSLContext:
    """The certificates, loaded. Raises StageError where they cannot be used."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not tls.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    name = "ca.pem"
    try:
        if tls.verify:
            made.load_verify_locations(tls.file(name))
        name = "cert.pem"
        made.load_cert_chain(tls.file("cert.pem"), tls.file("key.pem"), password=_no_password)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            what = "key.pem is not the key of cert.pem"
        elif isinstance(error, PermissionError):
            what = "a file cannot be read by this user"
        else:
            what = (
                f"{name} is no certificate, or key.pem no key"
                if name == "cert.pem"
                else f"{name} is no certificate"
            )
        raise StageError(
            "docker-tls-settings",
            f"the certificates for Docker in {tls.folder} cannot be used: {what}",
            hint="Take ca.pem, cert.pem and key.pem from one and the same set; the key must not have a password.",
            where=str(tls.folder),
        ) from error
    return made


def _no_password() -> str:
    message = "the key has a password"
    raise ValueError(message)


def _connected(found: Address) -> socket.socket:
    if found.host:
        return socket.create_connection((found.host, found.port), timeout=_PATIENCE)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(_PATIENCE)
        made.connect(found.path)
    except BaseException:
        made.close()
        raise
    return made


def _asked(connection: socket.socket, found: Address) -> str | None:
    connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
    answer = http.client.HTTPResponse(connection)
    try:
        answer.begin()
        status, version = answer.status, answer.headers.get("Api-Version")
    finally:
        answer.close()
    if status == 200:
        return version
    if status >= 500:
        raise NotYet(f"it answers with HTTP status {status}")
    if status == 400 and not found.tls and found.host and _speaks_tls(found):
        raise _with_tls_only(found)
    if status in {401, 403}:
        raise StageError(
            "docker-permission",
            f"the Docker daemon at {found.url} does not let this job in (HTTP status {status})",
            hint="A plugin of the daemon, or a proxy before it, decides that: ask its administrator.",
        )
    raise StageError(
        "docker-unreachable",
        f"what answers at {found.url} is not a Docker daemon (HTTP status {status})",
        hint="Correct DOCKER_HOST.",
    )


def unreachable(found: Address, reason: str) -> StageError:
    """The error of a daemon that does not answer."""
    hint = "In a GitLab job, add the service docker:dind and set DOCKER_HOST; on a laptop, start Docker."
    if found.port == 2375 and not found.tls:
        hint = (
            "docker:dind listens on port 2375 only if DOCKER_TLS_CERTDIR is empty; otherwise set "
            "DOCKER_HOST=tcp://docker:2376, DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH=/certs/client."
        )
    return StageError(
        "docker-unreachable", f"no Docker daemon answers at {found.url}{reason}", hint=hint
    )


def _tls_failed(found: Address, error: ssl.SSLError) -> StageError | NotYet:
    reason = error.reason or str(error)
    if _is_alert(error):
        return _client_refused(found, reason)
    if _answers_plainly(found):
        return _without_tls(found)
    if found.tls and (alert := _alert_of_handshake(found, found.tls)) is not None:
        return _client_refused(found, alert)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return NotYet("the connection was closed during the TLS handshake")
    return StageError(
        "docker-unreachable",
        f"no TLS connection to the Docker daemon at {found.url}: {_in_words(reason)}",
        hint="Correct DOCKER_HOST, or unset DOCKER_TLS_VERIFY and DOCKER_CERT_PATH if the daemon is used without TLS.",
    )


def _client_refused(found: Address, alert: str) -> StageError:
    return StageError(
        "docker-tls-client-refused",
        f"the Docker daemon at {found.url} does not accept cert.pem: {_in_words(alert)}",
        hint="DOCKER_CERT_PATH has to hold a client certificate that the daemon's CA issued and that is still valid.",
        where=found.tls.file("cert.pem") if found.tls else None,
    )


def _alert_of_handshake(found: Address, tls: Tls) -> str | None:
    """The alert with which the daemon ends a handshake, if it does.

    With TLS 1.3 a server looks at the client's certificate after the handshake, and the alert is
    lost if the client has sent its request by then. With TLS 1.2 it is part of the handshake.
    """
    context = tls_context(tls)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with _connected(found) as plain, context.wrap_socket(plain, server_hostname=found.host):
            return None
    except ssl.SSLError as error:
        return (
            error.reason
            if _is_alert(error) and "PROTOCOL_VERSION" not in (error.reason or "")
            else None
        )
    except OSError:
        return None


def _is_alert(error: ssl.SSLError) -> bool:
    return "ALERT" in (error.reason or "")


def _in_words(reason: str) -> str:
    return reason.replace("_", " ").lower()


def _without_tls(found: Address) -> StageError:
    return StageError(
        "docker-tls-not-spoken",
        f"the Docker daemon at {found.url} is used without TLS, and DOCKER_TLS_VERIFY or DOCKER_CERT_PATH asks for it",
        hint="Use the port with TLS (2376), or unset both variables.",
    )


def _with_tls_only(found: Address) -> StageError:
    return StageError(
        "docker-tls-needed",
        f"the Docker daemon at {found.url} is used with TLS only, and DOCKER_TLS_VERIFY is not set",
        hint="Set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH (with docker:dind, /certs/client).",
    )


def _answers_plainly(found: Address) -> bool:
    """Whether HTTP is spoken there, without TLS."""
    with (
        contextlib.suppress(OSError, http.client.HTTPException, NotYet, StageError),
        _connected(found) as plain,
    ):
        plain.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
        answer = http.client.HTTPResponse(plain)
        answer.begin()
        answer.close()
        return True
    return False


def _speaks_tls(found: Address) -> bool:
    """Whether TLS is spoken there, whoever it is with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connected(found) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        return _is_alert(error)
    except OSError:
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return "it closes the connection"
