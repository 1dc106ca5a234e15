"""A proxy that treats requests badly, by a seeded die: it delays, cuts, loses and refuses them.
Another one refuses chosen requests, as a policy of IAM does.
"""

import contextlib
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"

DENIED_JSON = json.dumps({"__type": "AccessDeniedException", "message": "Access Denied"}).encode()

FAULTS = ("delay", "cut before", "500", "503", "cut after", "500 after", "cut within")


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    # Of services with a protocol of their own; empty for S3.
    operation: str


class FlakyProxy:
    """In front of one server, while it is entered. Each request meets one of `FAULTS` with
    probability `rate`.
    """

    def __init__(self, target: str, *, seed: int, rate: float) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.proxy = self  # type: ignore[attr-defined]
        self.place = urlsplit(target).netloc
        self.met: list[str] = []
        self._die, self._rate, self._lock = random.Random(seed), rate, threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def next_fault(self, asked: Asked) -> str | None:
        """What this request meets."""
        with self._lock:
            if self._die.random() >= self._rate:
                return None
            fault = self._die.choice(FAULTS)
            self.met.append(fault)
            return fault


class RefusingProxy(FlakyProxy):
    """Refuses the requests that `refuses` chooses by method and path. It can be replaced."""

    def __init__(self, target: str, refuses: Callable[[str, str], bool]) -> None:
        super().__init__(target, seed=0, rate=0)
        self.refuses = refuses

    def next_fault(self, asked: Asked) -> str | None:
        if not self.refuses(asked.method, asked.path):
            return None
        self.met.append(asked.path)
        return "403"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError):
            super().handle_one_request()

    def _handle(self) -> None:
        proxy: Any = self.server.proxy  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = Asked(self.command, self.path, _operation(self.headers, body))
        fault = proxy.next_fault(asked)
        if fault == "delay":
            time.sleep(0.4)
        if fault == "cut before":
            return self._cut()
        if fault == "403":
            if asked.operation:
                return self._send(403, [("Content-Type", "application/json")], DENIED_JSON)
            return self._send(403, [("Content-Type", "application/xml")], DENIED)
        if fault in {"500", "503"}:
            return self._send(int(fault), [], b"")
        connection = http.client.HTTPConnection(proxy.place, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        data, headers = answer.read(), answer.getheaders()
        connection.close()
        if fault == "cut after":
            return self._cut()
        if fault == "500 after":
            return self._send(500, [], b"")
        self._send(answer.status, headers, data, whole=fault != "cut within")
        return None

    def _send(
        self, status: int, headers: list[tuple[str, str]], data: bytes, *, whole: bool = True
    ) -> None:
        own = {"connection", "transfer-encoding", "content-length", "date", "server"}
        self.send_response(status)
        length = {name.lower(): value for name, value in headers}.get(
            "content-length", str(len(data))
        )
        for name, value in headers:
            if name.lower() not in own:
                self.send_header(name, value)
        if status not in {204, 304}:
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data if whole else data[: len(data) // 2])
        if not whole:
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _operation(headers: Any, body: bytes) -> str:
    target = headers.get("X-Amz-Target", "")
    if target:
        return str(target).rpartition(".")[2]
    if "x-www-form-urlencoded" in headers.get("Content-Type", ""):
        return dict(parse_qsl(body.decode())).get("Action", "")
    return ""


for _method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler._handle)
