"""A door in front of a registry, which refuses, cuts off or holds up what is pushed through it."""

import contextlib
import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Mode = Literal["open", "refuse", "cut", "hold"]

_HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


class RegistryDoor(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, registry: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.registry = registry
        self.mode: Mode = "open"
        # Set when a layer arrives that is held up.
        self.holding = threading.Event()
        # Set to let it go.
        self.released = threading.Event()
        # Layers that were cut off.
        self.cut = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @contextlib.contextmanager
    def set_to(self, mode: Mode) -> Iterator[None]:
        self.holding.clear()
        self.released.clear()
        self.mode = mode
        try:
            yield
        finally:
            self.mode = "open"
            self.released.set()

    def handle_error(self, *_: object) -> None:
        """Clients that are killed, or give up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RegistryDoor

    def log_message(self, *_: object) -> None:
        pass

    def _handle(self) -> None:
        server = self.server
        writes = self.command in {"POST", "PUT", "PATCH"}
        if writes and server.mode == "refuse":
            body = b'{"errors":[{"code":"DENIED","message":"not for you"}]}'
            self.close_connection = True
            self._send(403, [("Content-Type", "application/json")], body)
            return
        if self.command == "PATCH" and server.mode == "cut":
            server.cut += 1
            self.rfile.read(100)
            self._reset()
            return
        if self.command == "PATCH" and server.mode == "hold":
            server.holding.set()
            server.released.wait(60)
            self._reset()
            return

        connection = http.client.HTTPConnection(server.registry, timeout=60)
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in _HOP | {"expect", "authorization"}
        }
        connection.request(self.command, self.path, body=self._body(), headers=headers)
        answer = connection.getresponse()
        self._send(answer.status, answer.getheaders(), answer.read())
        connection.close()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        given = {name.lower(): value for name, value in headers}
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        length = given.get("content-length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        self.close_connection = True
        # Closing with a linger of zero seconds sends a reset.
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)


for _method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler._handle)


@contextlib.contextmanager
def registry_door(registry: str) -> Iterator[RegistryDoor]:
    """A door to the registry at HOST:PORT."""
    with RegistryDoor(registry) as door:
        threading.Thread(target=door.serve_forever, daemon=True).start()
        yield door
        door.shutdown()
