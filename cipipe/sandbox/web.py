"""Small WSGI pieces that the sandbox's services share: answers, and a
server on a free port of loopback.
"""

import json
import threading
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

__all__ = [
    "Request",
    "Response",
    "Server",
    "StartResponse",
    "WSGIApplication",
    "WSGIEnvironment",
    "json_answer",
]


class _Handler(WSGIRequestHandler):
    # The answer to what is no HTTP starts with a status line. By that, Docker
    # tells an HTTP server that it has sent TLS to, and tries again without.
    default_request_version = "HTTP/1.0"


class Server:
    """A threaded HTTP server on 127.0.0.1, at a free port. It serves until the process exits."""

    def __init__(self, app: WSGIApplication, handler: type[Any] | None = None) -> None:
        # Port 0: the system picks one. It is bound here, so the address is
        # known before `start`.
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1", 0, app, threaded=True, request_handler=handler or _Handler
        )
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def host(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def start(self) -> None:
        self._thread.start()


def json_answer(
    document: Any, status: int = 200, headers: Iterable[tuple[str, str]] = ()
) -> Response:
    return Response(json.dumps(document), status, list(headers), content_type="application/json")
