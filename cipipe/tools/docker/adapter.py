"""How the SDK's requests reach a daemon with TLS."""

import ssl
from typing import Any

from requests.adapters import HTTPAdapter

from cipipe.tools.docker.address import Tls
from cipipe.tools.docker.certificates import tls_context


class TlsAdapter(HTTPAdapter):
    """Verifies certificates as Docker's own client does.

    From Python 3.13 on, urllib3's context also wants every CA to have a key usage. That of
    docker:dind has one since 28.2 only: https://github.com/docker-library/docker/pull/536
    """

    def __init__(self, tls: Tls) -> None:
        self._context: ssl.SSLContext = tls_context(tls)
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)
