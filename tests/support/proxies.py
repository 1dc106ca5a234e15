"""Proxies that open tunnels, whatever the host that they are asked for, to one local server."""

import contextlib
import select
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path


class Tunnels(socketserver.ThreadingTCPServer):
    """A proxy. `seen` is what it was asked, in order."""

    daemon_threads = True

    def __init__(
        self, handler: type[socketserver.BaseRequestHandler], target: int, pem: Path | None
    ) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.target = target
        self.seen: list[str] = []
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, *_: object) -> None:
        """A client that does not trust the certificate hangs up."""

    def connect(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            _relay(client, server)


class HttpTunnel(socketserver.BaseRequestHandler):
    """CONNECT. Notes the request line, and the login."""

    server: Tunnels

    def handle(self) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            received = self.request.recv(1000)
            if not received:
                return
            request += received
        first, *headers = request.decode().splitlines()
        self.server.seen.append(first.rpartition(" ")[0])
        self.server.seen += [line for line in headers if line.lower().startswith("proxy-auth")]
        self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        self.server.connect(self.request)


class Socks5(socketserver.BaseRequestHandler):
    """SOCKS 5 with a user name and password. Notes both, and host and port.

    https://www.rfc-editor.org/rfc/rfc1928, https://www.rfc-editor.org/rfc/rfc1929
    """

    server: Tunnels

    def handle(self) -> None:
        methods = self._read(self._read(2)[1])
        assert 2 in methods
        self.request.sendall(b"\x05\x02")
        self._read(1)
        login = [self._text(), self._text()]
        self.server.seen.append(":".join(login))
        self.request.sendall(b"\x01\x00")
        assert self._read(4) == b"\x05\x01\x00\x03", "a host name, for the proxy to resolve"
        host = self._text()
        self.server.seen.append(f"{host}:{struct.unpack('!H', self._read(2))[0]}")
        self.request.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
        self.server.connect(self.request)

    def _text(self) -> str:
        return self._read(self._read(1)[0]).decode()

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            received = self.request.recv(size - len(found))
            assert received
            found += received
        return found


@contextlib.contextmanager
def tunnels(
    handler: type[socketserver.BaseRequestHandler], target: int, pem: Path | None = None
) -> Iterator[Tunnels]:
    """A proxy to the server at port `target`; with a certificate it is spoken to by TLS."""
    with Tunnels(handler, target, pem) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Copy both ways in one thread: a TLS socket must not be used by two."""
    peers = {one: other, other: one}
    while True:
        buffered = [s for s in peers if isinstance(s, ssl.SSLSocket) and s.pending()]
        ready = buffered or select.select(list(peers), [], [], 10)[0]
        if not ready:
            return
        for source in ready:
            received = source.recv(65536)
            if not received:
                return
            peers[source].sendall(received)
