"""The proxy that the environment names for a host (`HTTPS_PROXY`,
`NO_PROXY`, …).

Loopback is never reached through a proxy: the sandbox and the tests are
there.
"""

import base64
import importlib.util
import urllib.parse

import msgspec

from cipipe.errors import UsageError
from cipipe.tools.http import LOOPBACK

_SOCKS = {"socks4", "socks4a", "socks5", "socks5h"}
_PORTS = {"http": 80, "https": 443, **dict.fromkeys(_SOCKS, 1080)}


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy server."""

    # `http`, `https` (TLS to the proxy itself), or a version of SOCKS.
    scheme: str
    host: str
    port: int
    # None: the proxy needs no login.
    username: str | None = None
    password: str | None = None

    @property
    def is_socks(self) -> bool:
        return self.scheme in _SOCKS

    @property
    def url(self) -> str:
        """The URL without user name and password, so that no error message can quote them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def headers(self) -> dict[str, str]:
        """What the proxy is sent to log in (Basic)."""
        if self.username is None:
            return {}
        login = f"{self.username}:{self.password or ''}".encode()
        return {"proxy-authorization": f"Basic {base64.b64encode(login).decode()}"}

    def __repr__(self) -> str:
        return f"Proxy({self.url})"


def proxy_of(origin: str) -> Proxy | None:
    """The proxy for requests to `http://HOST[:PORT]` or `https://…`; None:
    go there directly.

    Raises UsageError for a proxy that cannot be used.
    """
    parts = urllib.parse.urlsplit(origin)
    if parts.hostname in LOOPBACK:
        return None

    # Imported here: it loads http.client and more, which a command without
    # AWS does not need.
    from urllib.request import getproxies, proxy_bypass

    url = getproxies().get(parts.scheme)
    if not url or proxy_bypass(parts.netloc):
        return None

    variable = f"{parts.scheme.upper()}_PROXY"
    proxy = _parsed(url)
    if proxy is None:
        raise UsageError(
            "usage",
            "the proxy cannot be used: its URL is not SCHEME://[USER:PASSWORD@]HOST[:PORT]",
            hint="SCHEME is http, https, socks5 or socks5h. "
            "Write special characters in user name or password as %40 and the like.",
            where=variable,
        )
    if proxy.is_socks and importlib.util.find_spec("socks") is None:
        raise UsageError(
            "usage",
            f"the proxy cannot be used: {proxy.scheme} needs PySocks, which is not installed",
            hint="Install PySocks beside cipipe: pip install PySocks.",
            where=variable,
        )
    return proxy


def _parsed(url: str) -> Proxy | None:
    """The proxy at this URL, or None when it is malformed.

    No error quotes the URL: a password with a `#` or `/` in it can end up
    in any of its parts.
    """
    try:
        parts = urllib.parse.urlsplit(url if "//" in url else f"http://{url}")
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        return None

    username = parts.username
    password = parts.password
    return Proxy(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        username=None if username is None else urllib.parse.unquote(username),
        password=None if password is None else urllib.parse.unquote(password),
    )
