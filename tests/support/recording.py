"""A proxy in front of an AWS that keeps what it was asked, and may be told to wait or to refuse."""

import contextlib
import http.client
import json
import threading
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

# Operations that change nothing, by the start of their names.
_READING = ("BatchGet", "Describe", "Get", "Head", "List", "AssumeRoleWithWebIdentity")


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    # Of the services with a protocol of their own; empty for S3.
    operation: str

    @property
    def reads(self) -> bool:
        if self.operation:
            return self.operation.startswith(_READING)
        return self.method in {"GET", "HEAD"}


class RecordingProxy:
    """In front of one server, while it is entered."""

    def __init__(self, target: str) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.proxy = self  # type: ignore[attr-defined]
        self.place = urllib.parse.urlsplit(target).netloc
        self.asked: list[Asked] = []
        # Called with each request before it is passed on; True refuses it.
        self.before: Callable[[Asked], bool] = lambda _: False

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def writes(self) -> list[Asked]:
        return [asked for asked in self.asked if not asked.reads]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError):
            super().handle_one_request()

    def _handle(self) -> None:
        proxy: RecordingProxy = self.server.proxy  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = Asked(self.command, self.path, _operation(self.headers, body))
        proxy.asked.append(asked)
        if proxy.before(asked):
            refusal = json.dumps({"__type": "AccessDeniedException", "message": "refused"})
            self._send(403, [("content-type", "application/x-amz-json-1.1")], refusal.encode())
            return

        connection = http.client.HTTPConnection(proxy.place, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        data, headers = answer.read(), answer.getheaders()
        connection.close()
        self._send(answer.status, headers, data)

    def _send(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        own = {"connection", "transfer-encoding", "content-length", "date", "server"}
        self.send_response(status)
        given = {name.lower(): value for name, value in headers}
        for name, value in headers:
            if name.lower() not in own:
                self.send_header(name, value)
        if status not in {204, 304}:
            length = given.get("content-length", str(len(data)))
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _operation(headers: Any, body: bytes) -> str:
    target = headers.get("X-Amz-Target", "")
    if target:
        return str(target).rpartition(".")[2]
    if "x-www-form-urlencoded" in headers.get("Content-Type", ""):
        return dict(urllib.parse.parse_qsl(body.decode())).get("Action", "")
    return ""


for _method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler._handle)
