"""HTTP to AWS on urllib3: one request, one answer. No retries, redirects or
signatures here.

Importing urllib3 takes longer than the rest of a short command: this module
is imported with the first request.
"""

import contextlib
import http.client
import ssl
import threading

from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError, ProxyError

from cipipe.tools.aws.certificates import trust
from cipipe.tools.aws.messages import AwsAnswer, AwsRequest, Unanswered
from cipipe.tools.aws.pools import pools
from cipipe.tools.aws.proxies import proxy_of

CONNECT, READ = 10.0, 60.0
"""Seconds to connect, and seconds to wait for each piece of an answer."""


class Transport:
    """Connections to AWS that stay open from one request to the next. Safe to use from threads."""

    def __init__(self, ca_bundle: str | None = None) -> None:
        self._ca_bundle = ca_bundle
        self._lock = threading.Lock()
        # By origin, because NO_PROXY decides for each host whether there is
        # a proxy: the pools, and whether requests go to a proxy that is
        # sent whole URLs.
        self._pools: dict[str, tuple[PoolManager, bool]] = {}

    def send(self, request: AwsRequest, *, limit: int | None = None) -> AwsAnswer:
        """Send one request and read its answer, at most `limit` bytes of
        the body.

        Raises Unanswered, and UsageError for a proxy or CA bundle that
        cannot be used.
        """
        manager, forwarded = self._manager(request.origin)
        pool = manager.connection_from_url(request.origin)
        try:
            response = pool.urlopen(
                request.method,
                request.origin + request.target if forwarded else request.target,
                body=request.body or None,
                headers=request.headers,
                timeout=Timeout(connect=CONNECT, read=READ),
                retries=False,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
            )
            # Closing a response returns its connection to the pool when the
            # body was read to its end, and closes the connection otherwise.
            with contextlib.closing(response):
                body = response.read(limit)
        except HTTPError as error:
            raise Unanswered(f"{_host(request)}: {_reason(error)}") from None
        except OSError as error:
            raise Unanswered(f"{_host(request)}: {error.strerror or error}") from None
        except ValueError:
            # A line end in a header. The header is not quoted here: it may
            # be a session token.
            raise Unanswered(
                f"{_host(request)}: a key or token has characters that no request can contain",
                retryable=False,
            ) from None

        headers = {name.lower(): value for name, value in response.headers.items()}
        return AwsAnswer(response.status, headers, body)

    def close(self) -> None:
        """Close every idle connection."""
        with self._lock:
            managers = [manager for manager, _ in self._pools.values()]
            self._pools.clear()
        for manager in managers:
            manager.clear()

    def _manager(self, origin: str) -> tuple[PoolManager, bool]:
        with self._lock:
            if origin in self._pools:
                return self._pools[origin]

            proxy = proxy_of(origin)
            https = origin.startswith("https:")
            needs_tls = https or (proxy is not None and proxy.scheme == "https")
            tls = trust(self._ca_bundle) if needs_tls else None
            # For https:// a proxy opens a tunnel, and a SOCKS proxy always
            # does.
            forwarded = proxy is not None and not proxy.is_socks and not https
            self._pools[origin] = (pools(proxy, tls), forwarded)
            return self._pools[origin]


def _host(request: AwsRequest) -> str:
    return request.origin.partition("//")[2]


def _reason(error: HTTPError) -> str:
    """What went wrong, without what urllib3 wraps around it."""
    through = "the proxy: " if isinstance(error, ProxyError) else ""
    innermost: BaseException = error
    while (inner := _wrapped(innermost)) is not None:
        innermost = inner

    if isinstance(innermost, http.client.HTTPException):
        # Its text has the bytes that did arrive.
        return through + type(innermost).__name__
    if isinstance(innermost, ssl.SSLError) and innermost.reason:
        return through + innermost.reason
    if isinstance(innermost, OSError) and innermost.strerror:
        return through + innermost.strerror
    return through + str(innermost)


def _wrapped(error: BaseException) -> BaseException | None:
    """The error inside one of urllib3's: an argument of it, or its cause."""
    for argument in error.args:
        if isinstance(argument, BaseException):
            return argument
    return error.__cause__
