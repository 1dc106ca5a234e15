"""Asking the Docker daemon once, and telling apart why it does not answer.

The SDK wraps every failure in the same error, so this happens before the
SDK is used. What may pass by itself (a daemon that is still starting) is
NotYet; everything else is a StageError.
"""

import contextlib
import http.client
import os
import socket
import ssl

from cipipe.errors import StageError
from cipipe.tools.docker.address import Address, NotYet, Tls
from cipipe.tools.docker.certificates import tls_context

# Seconds to connect, and seconds to wait for an answer.
_PATIENCE = 5.0

_REQUEST = b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"


def ping(found: Address) -> str | None:
    """The daemon's version of the API; None if it does not say. Raises NotYet, StageError."""
    context = tls_context(found.tls) if found.tls else None
    try:
        with _connected(found) as plain:
            if context is None:
                return _version(plain, found)
            with context.wrap_socket(plain, server_hostname=found.host) as secured:
                return _version(secured, found)
    except ssl.SSLCertVerificationError as error:
        raise _not_trusted(found, error) from error
    except ssl.SSLError as error:
        raise _tls_failed(found, error) from error
    except PermissionError as error:
        raise StageError(
            "docker-permission",
            f"this user may not use the Docker daemon's socket {found.path}",
            hint="Add the user to the group that owns the socket (`docker`) and log in again, or "
            "run as root.",
            where=found.path,
        ) from error
    except (http.client.HTTPException, OSError) as error:
        raise _connection_failed(found, error) from error


def unreachable(found: Address, reason: str) -> StageError:
    """The error of a daemon that does not answer."""
    hint = "In a GitLab job, add the service docker:dind and set DOCKER_HOST; on a laptop, start "
    hint += "Docker."
    if found.port == 2375 and not found.tls:
        hint = (
            "docker:dind listens on port 2375 only if DOCKER_TLS_CERTDIR is empty; otherwise set "
            "DOCKER_HOST=tcp://docker:2376, DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH=/certs/client."
        )
    return StageError(
        "docker-unreachable", f"no Docker daemon answers at {found.url}{reason}", hint=hint
    )


def _connected(found: Address) -> socket.socket:
    if found.host:
        return socket.create_connection((found.host, found.port), timeout=_PATIENCE)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_PATIENCE)
        connection.connect(found.path)
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: socket.socket, found: Address) -> str | None:
    connection.sendall(_REQUEST)
    answer = http.client.HTTPResponse(connection)
    try:
        answer.begin()
        status = answer.status
        version = answer.headers.get("Api-Version")
    finally:
        answer.close()

    if status == 200:
        return version
    if status >= 500:
        raise NotYet(f"it answers with HTTP status {status}")
    if status == 400 and not found.tls and found.host and _speaks_tls(found):
        # Go's servers answer a plain request on a TLS port with 400.
        raise _tls_only(found)
    if status in {401, 403}:
        raise StageError(
            "docker-permission",
            f"the Docker daemon at {found.url} does not let this job in (HTTP status {status})",
            hint="A plugin of the daemon, or a proxy before it, decides that: ask its "
            "administrator.",
        )
    raise StageError(
        "docker-unreachable",
        f"what answers at {found.url} is not a Docker daemon (HTTP status {status})",
        hint="Correct DOCKER_HOST.",
    )


def _connection_failed(
    found: Address, error: http.client.HTTPException | OSError
) -> StageError | NotYet:
    """What is wrong with a connection that broke off, or could not be opened."""
    if found.tls and _speaks_http(found):
        return _no_tls(found)
    if found.tls and (alert := _handshake_alert(found, found.tls)) is not None:
        return _client_refused(found, alert)
    if not found.tls and found.host and _speaks_tls(found):
        return _tls_only(found)
    return NotYet(_reason(error))


def _tls_failed(found: Address, error: ssl.SSLError) -> StageError | NotYet:
    """What is wrong with a TLS connection that failed for another reason than its certificate."""
    reason = error.reason or str(error)
    if _is_alert(error):
        return _client_refused(found, reason)
    if _speaks_http(found):
        return _no_tls(found)
    if found.tls and (alert := _handshake_alert(found, found.tls)) is not None:
        return _client_refused(found, alert)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return NotYet("the connection was closed during the TLS handshake")
    return StageError(
        "docker-unreachable",
        f"no TLS connection to the Docker daemon at {found.url}: {_in_words(reason)}",
        hint="Correct DOCKER_HOST, or unset DOCKER_TLS_VERIFY and DOCKER_CERT_PATH if the daemon "
        "is used without TLS.",
    )


def _not_trusted(found: Address, error: ssl.SSLCertVerificationError) -> StageError:
    return StageError(
        "docker-tls-untrusted",
        f"the certificate of the Docker daemon at {found.url} is not trusted: "
        f"{error.verify_message}",
        hint="DOCKER_CERT_PATH must have the ca.pem of this very daemon, and DOCKER_HOST the name "
        "in its certificate.",
        where=found.tls.file("ca.pem") if found.tls else None,
    )


def _client_refused(found: Address, alert: str) -> StageError:
    return StageError(
        "docker-tls-client-refused",
        f"the Docker daemon at {found.url} does not accept cert.pem: {_in_words(alert)}",
        hint="DOCKER_CERT_PATH must have a client certificate that the daemon's CA issued and "
        "that is still valid.",
        where=found.tls.file("cert.pem") if found.tls else None,
    )


def _no_tls(found: Address) -> StageError:
    return StageError(
        "docker-tls-not-spoken",
        f"the Docker daemon at {found.url} does not use TLS, but DOCKER_TLS_VERIFY or "
        "DOCKER_CERT_PATH is set",
        hint="Use the port with TLS (2376), or unset both variables.",
    )


def _tls_only(found: Address) -> StageError:
    return StageError(
        "docker-tls-needed",
        f"the Docker daemon at {found.url} uses TLS only, and DOCKER_TLS_VERIFY is not set",
        hint="Set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH (with docker:dind, /certs/client).",
    )


def _handshake_alert(found: Address, tls: Tls) -> str | None:
    """The alert with which the daemon refuses a TLS 1.2 handshake; None if
    it does not.

    In TLS 1.3 a server checks the client's certificate after the handshake,
    and its alert is lost when the client has sent a request by then. In TLS
    1.2 the check is part of the handshake.
    """
    context = tls_context(tls)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with _connected(found) as plain, context.wrap_socket(plain, server_hostname=found.host):
            return None
    except ssl.SSLError as error:
        # A daemon with TLS 1.3 only refuses the version: that says nothing
        # about the certificate.
        if _is_alert(error) and "PROTOCOL_VERSION" not in (error.reason or ""):
            return error.reason
        return None
    except OSError:
        return None


def _speaks_http(found: Address) -> bool:
    """Whether the daemon answers without TLS."""
    with (
        contextlib.suppress(OSError, http.client.HTTPException, NotYet, StageError),
        _connected(found) as plain,
    ):
        plain.sendall(_REQUEST)
        answer = http.client.HTTPResponse(plain)
        answer.begin()
        answer.close()
        # Go's servers answer a plain request on a TLS port with 400.
        return answer.status != 400 or not _speaks_tls(found)
    return False


def _speaks_tls(found: Address) -> bool:
    """Whether the daemon answers a TLS handshake, whatever its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connected(found) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        # An alert is an answer in TLS too: it wants a client certificate.
        return _is_alert(error)
    except OSError:
        return False


def _is_alert(error: ssl.SSLError) -> bool:
    return "ALERT" in (error.reason or "")


def _in_words(reason: str) -> str:
    return reason.replace("_", " ").lower()


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return "it closes the connection"
