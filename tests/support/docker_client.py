"""What Docker's own client sends to a daemon: a daemon that takes a build context, and builds
nothing.
"""

import contextlib
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    received: bytes = b""

    def handle_error(self, *_: object) -> None:
        """The client hangs up on a daemon as soon as it knows enough."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def address_string(self) -> str:
        return "the client"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(b"", "text/plain")

    def do_GET(self) -> None:
        self._answer(b"OK", "text/plain")

    def do_POST(self) -> None:
        self.server.received = b"".join(self._chunks())
        self._answer(b'{"stream":"taken"}\n', "application/json")

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Api-Version", "1.41")
        self.send_header("Ostype", "linux")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Client:
    """The `docker` command, with its classic builder: the one whose context crosses the socket as
    a tar.
    """

    def __init__(self, command: Path, folder: Path, server: _Server) -> None:
        self._command = command
        self._server = server
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "DOCKER_CONFIG": str(folder),
            "DOCKER_HOST": f"unix://{server.server_address}",
            "DOCKER_BUILDKIT": "0",
        }

        self.is_current = self._version() >= 23

    def _version(self) -> int:
        argv = [str(self._command), "version", "--format", "{{.Client.Version}}"]
        done = subprocess.run(argv, env=self._env, capture_output=True, timeout=60, check=False)
        return int(done.stdout.split(b".")[0])

    def sent(self, context: Path, dockerfile: str = "Dockerfile") -> set[str] | None:
        """The files of a folder that it sends, without folders; None where it refuses."""
        self._server.received = b""
        argv = [str(self._command), "build", "--file", str(context / dockerfile), str(context)]
        done = subprocess.run(argv, env=self._env, capture_output=True, timeout=60, check=False)
        if done.returncode != 0:
            assert b"pattern" in done.stderr, done.stderr
            return None
        with tarfile.open(fileobj=io.BytesIO(self._server.received)) as tar:
            return {member.name for member in tar if not member.isdir()}


@contextlib.contextmanager
def client(command: Path, folder: Path) -> Iterator[Client]:
    server = _Server(str(folder / "docker.sock"), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Client(command, folder, server)
    finally:
        server.shutdown()
        server.server_close()
