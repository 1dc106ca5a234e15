"""Pools of HTTP connections: urllib3, with two rules of our own for a
connection.

Imported with the first request, like transport.py.
"""

import errno
import ssl
import time
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

from cipipe.tools.aws.proxies import Proxy

IDLE = 10.0
"""Seconds after which an idle connection is not used again.

Servers, NAT gateways and firewalls cut idle connections, some without a
packet. A stage may run for an hour between two requests.
"""

# More than the threads that share a client: urllib3 closes the connections
# that are over it.
_POOLED = 32


class _PooledConnection(HTTPConnection):
    """A connection that counts as dropped after it was idle for `IDLE` seconds."""

    _used = 0.0

    def getresponse(self) -> HTTPResponse:  # type: ignore[override] # as in urllib3
        try:
            return super().getresponse()
        finally:
            self._used = time.monotonic()

    @property
    def is_connected(self) -> bool:
        # urllib3 asks this before it uses a pooled connection; the base
        # class looks whether the server closed it.
        return super().is_connected and time.monotonic() - self._used < IDLE


class _PooledTlsConnection(_PooledConnection, HTTPSConnection):
    """The same over TLS."""

    def request(self, *arguments: Any, **given: Any) -> None:
        # A server that refuses a large body answers and closes before it
        # has read everything. urllib3 reads that answer after a broken
        # pipe, which TLS reports as another error.
        try:
            super().request(*arguments, **given)
        except ssl.SSLEOFError as error:
            raise BrokenPipeError(errno.EPIPE, str(error)) from error


class _Pool(HTTPConnectionPool):
    ConnectionCls = _PooledConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _PooledTlsConnection


def pools(proxy: Proxy | None, tls: ssl.SSLContext | None) -> PoolManager:
    """Pools of connections, directly or through a proxy. `tls` is None for `http://` only."""
    options: dict[str, Any] = {"maxsize": _POOLED, "ssl_context": tls}
    if proxy is None:
        manager = PoolManager(**options)
    elif proxy.is_socks:
        # Imports PySocks, and has connection classes of its own.
        from urllib3.contrib.socks import SOCKSProxyManager

        return SOCKSProxyManager(
            proxy.url, username=proxy.username, password=proxy.password, **options
        )
    else:
        manager = ProxyManager(
            proxy.url, proxy_headers=proxy.headers(), proxy_ssl_context=tls, **options
        )
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return manager
