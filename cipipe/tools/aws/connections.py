"""HTTP connections to AWS that stay open from one request to the next, on the standard library.

What importing a client library takes would be most of a short command's time. Loopback is never
reached through a proxy; redirects are not followed.
"""

import contextlib
import functools
import http.client
import os
import select
import ssl
import threading
import time
import urllib.parse
from collections.abc import Mapping

import msgspec

from cipipe.errors import UsageError
from cipipe.tools.http import LOOPBACK

CONNECT, READ = 10.0, 60.0
"""Seconds to connect, and seconds to wait for each piece of an answer."""

IDLE = 10.0
"""Seconds after which an idle connection is not used again: servers and what is between cut them,
some without a word.
"""

_PORTS = {"http": 80, "https": 443}


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Answer({self.status})"


class Unanswered(Exception):
    """No whole answer came; says why. `again`: another attempt may get one."""

    def __init__(self, why: str, *, again: bool = True) -> None:
        super().__init__(why)
        self.again = again


class Connections:
    """The connections to one server, `http://HOST[:PORT]` or `https://…`. Safe to use from several
    threads.
    """

    def __init__(self, origin: str, ca_bundle: str | None = None) -> None:
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()
        self.origin = origin
        parts = urllib.parse.urlsplit(origin)
        self._netloc = parts.netloc
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        self._trust = trust(ca_bundle) if self._https else None
        self._proxy = _proxy(parts.scheme, self._host, self._netloc)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        most: int | None = None,
    ) -> Answer:
        """One request; `target` is its path and query. `most` is how many bytes of an answer are
        read.

        Raises Unanswered.
        """
        kept = self._kept()
        try:
            if kept is not None:
                try:
                    return self._sent(kept, method, target, headers, body, most)
                except (ConnectionError, http.client.RemoteDisconnected, ssl.SSLError):
                    self.close()  # the server has ended it since, and the others with it; a new one tells more
            return self._sent(self._opened(), method, target, headers, body, most)
        except http.client.HTTPException as error:
            raise Unanswered(f"{self._netloc}: {type(error).__name__}") from None
        except ssl.SSLError as error:
            raise Unanswered(f"{self._netloc}: {error.reason or error}") from None
        except OSError as error:
            raise Unanswered(f"{self._netloc}: {error.strerror or error}") from None
        except ValueError:  # a line end in a header, which is not quoted here: it may be a secret
            raise Unanswered(
                f"{self._netloc}: a key or token holds what no request can", again=False
            ) from None

    def _kept(self) -> http.client.HTTPConnection | None:
        """A connection that is open still, as far as can be told: one that has been idle for long
        may be cut anywhere.
        """
        while True:
            with self._lock:
                if not self._idle:
                    return None
                since, connection = self._idle.pop()
            # Where there is something to read though nothing was asked, it is the end.
            waiting = select.poll()
            waiting.register(connection.sock, select.POLLIN)
            if time.monotonic() - since < IDLE and not waiting.poll(0):
                return connection
            connection.close()

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
            try:
                connection.request(method, target, body or None, sent)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError) as error:
                # A server that refuses a large body answers, and does not read on.
                try:
                    answer = connection.getresponse()
                except (OSError, http.client.HTTPException):
                    raise error from None
            else:
                answer = connection.getresponse()
            found = Answer(
                answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read(most)
            )
            whole = answer.isclosed() and not answer.will_close
        finally:
            if not whole:
                connection.close()
        if whole:
            with self._lock:
                self._idle.append((time.monotonic(), connection))
        return found

    def _opened(self) -> http.client.HTTPConnection:
        host, port, tunnel = self._host, self._port, {}
        if self._proxy:
            host, port = self._proxy.hostname or "", self._proxy.port or 80
            tunnel = _authorization(self._proxy)
        if self._https:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=CONNECT, context=self._trust
            )
            if self._proxy:
                connection.set_tunnel(self._host, self._port, tunnel)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=CONNECT)
        with contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            connection.connect()
            connection.sock.settimeout(READ)
            stack.pop_all()
        return connection


def _proxy(scheme: str, host: str, netloc: str) -> urllib.parse.SplitResult | None:
    """The proxy that the environment names for this host (`HTTPS_PROXY`, `NO_PROXY`, …). Raises
    UsageError.
    """
    if host in LOOPBACK:
        return None
    import urllib.request

    url = urllib.request.getproxies().get(scheme)
    if not url or urllib.request.proxy_bypass(netloc):
        return None
    try:
        found = urllib.parse.urlsplit(url if "//" in url else f"http://{url}")
        usable = found.scheme == "http" and bool(found.hostname) and found.port != 0
    except ValueError:  # of a port that is no number; a password may stand in its place
        usable = False
    if not usable:
        raise UsageError(
            "usage",
            "the proxy cannot be used: it has to be http://[USER:PASSWORD@]HOST[:PORT]",
            hint="What is odd in user name or password is written as %40 and the like. Proxies that are spoken to by TLS "
            "or SOCKS are not supported.",
            where=f"{scheme.upper()}_PROXY",
        )
    return found


def _authorization(proxy: urllib.parse.SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    import base64

    pair = f"{urllib.parse.unquote(proxy.username)}:{urllib.parse.unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


@functools.cache
def trust(ca_bundle: str | None) -> ssl.SSLContext:
    """The certificates to trust: the given ones, else the system's, else those that came with
    requests.

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
