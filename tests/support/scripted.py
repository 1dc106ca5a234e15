"""An HTTP server that gives prepared answers, one after the other."""

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Answer = tuple[int, str, dict[str, str]]


class ScriptedServer:
    """Gives `answers` in order, and then the last one again; None hangs up."""

    def __init__(self, pem: Path | None = None) -> None:
        self.answers: list[Answer | None] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.opened = 0
        self._open: list[socket.socket] = []
        parent = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                parent.opened += 1
                parent._open.append(self.connection)

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                parent.asked.append((self.command, self.path, headers, body))
                found = parent.answers.pop(0) if len(parent.answers) > 1 else parent.answers[0]
                if found is None:
                    self.close_connection = True
                    return
                status, text, more = found
                self.send_response(status)
                for name, value in {"Content-Length": str(len(text.encode())), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text.encode())

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do_CONNECT = answer  # noqa: N815

            def log_message(self, *_: Any) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"http{'s' if pem else ''}://127.0.0.1:{self.port}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def hang_up(self) -> None:
        """Close every connection that is open, without a word."""
        for opened in self._open:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def serving(pem: Path | None = None) -> Iterator[ScriptedServer]:
    """A server, over TLS where there is a certificate."""
    server = ScriptedServer(pem)
    try:
        yield server
    finally:
        server.close()


def found(body: str = "hello", **headers: str) -> Answer:
    """S3's answer for an object."""
    return 200, body, {"ETag": '"e"', **headers}
