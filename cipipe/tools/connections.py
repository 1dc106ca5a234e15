"""HTTP connections to AWS that stay open from one request to the next, on the standard library.

What importing a client library takes would be most of a short command's time. Loopback is never reached through a
proxy; redirects are not followed.
"""

import contextlib
import functools
import http.client
import os
import ssl
import threading
import urllib.parse
from collections.abc import Mapping

import msgspec

from cipipe.errors import UsageError

CONNECT, READ = 10.0, 60.0
"""Seconds to connect, and seconds to wait for each piece of an answer."""

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Answer({self.status})"


class Unanswered(Exception):
    """No whole answer came; says why."""


class Connections:
    """The connections to one server, `http://HOST[:PORT]` or `https://…`. Safe to use from several threads."""

    def __init__(self, origin: str, ca_bundle: str | None = None) -> None:
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self.origin = origin
        parts = urllib.parse.urlsplit(origin)
        self._netloc = parts.netloc
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._trust = trust(ca_bundle) if self._https else None
        self._proxy = _proxy(parts.scheme, self._host)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"", *, most: int | None = None
    ) -> Answer:
        """One request; `target` is its path and query. `most` is how many bytes of an answer are read.

        Raises Unanswered.
        """
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            try:
                return self._sent(kept or self._opened(), method, target, headers, body, most)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                if kept is None:  # which a server may have closed a moment ago; a new one says something
                    raise Unanswered(f"{self._netloc}: {type(error).__name__}") from None
            except ssl.SSLError as error:
                raise Unanswered(f"{self._netloc}: {error.reason or error}") from None
            except (OSError, http.client.HTTPException) as error:
                why = (
                    type(error).__name__
                    if isinstance(error, http.client.HTTPException)
                    else error.strerror or str(error)
                )
                raise Unanswered(f"{self._netloc}: {why}") from None

    def _sent(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        most: int | None,
    ) -> Answer:
        whole = False
        sent = dict(headers)
        if self._proxy and not self._https:
            target, sent = self.origin + target, sent | _authorization(self._proxy)
        try:
            connection.request(method, target, body or None, sent)
            answer = connection.getresponse()
            found = Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read(most))
            whole = answer.isclosed() and not answer.will_close
        finally:
            if not whole:
                connection.close()
        with self._lock:
            self._idle.append(connection) if whole else None
        return found

    def _opened(self) -> http.client.HTTPConnection:
        host, port, tunnel = self._host, self._port, {}
        if self._proxy:
            host, port = self._proxy.hostname or "", self._proxy.port
            tunnel = _authorization(self._proxy)
        if self._https:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=CONNECT, context=self._trust
            )
            if self._proxy:
                connection.set_tunnel(self._host, self._port or 443, tunnel)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=CONNECT)
        with contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            connection.connect()
            connection.sock.settimeout(READ)
            stack.pop_all()
        return connection


def _proxy(scheme: str, host: str) -> urllib.parse.SplitResult | None:
    """The proxy that the environment names for this host (`HTTPS_PROXY`, `NO_PROXY`, …)."""
    if host in _LOOPBACK:
        return None
    import urllib.request

    url = urllib.request.getproxies().get(scheme)
    if not url or urllib.request.proxy_bypass(host):
        return None
    return urllib.parse.urlsplit(url if "//" in url else f"http://{url}")


def _authorization(proxy: urllib.parse.SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    import base64

    pair = f"{urllib.parse.unquote(proxy.username)}:{urllib.parse.unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


@functools.cache
def trust(ca_bundle: str | None) -> ssl.SSLContext:
    """The certificates to trust: the given ones, else the system's, else those that came with requests.

    Raises UsageError where the given ones cannot be read.
    """
    if ca_bundle is None:
        places = ssl.get_default_verify_paths()
        if not places.cafile and not (places.capath and any(os.scandir(places.capath))):
            import certifi

            ca_bundle = certifi.where()
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:  # no certificates in it are one as well
        raise no_certificates(ca_bundle or "", error.strerror or str(error)) from None


def no_certificates(path: str, why: str) -> UsageError:
    return UsageError(
        "usage",
        f"the certificates to trust cannot be read from {path}: {why}",
        hint="AWS_CA_BUNDLE names a file of certificates in PEM form.",
        where="AWS_CA_BUNDLE",
    )
