"""Credentials for this run's children, over a unix socket: AWS's tools ask again before a session
ends.

The token stays in this process. Whoever connects gets a JSON document and the end: credentials in
the form that AWS's `credential_process` takes, or why there are none.
"""

import contextlib
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path

from cipipe.errors import CipipeError, IdentityError
from cipipe.tools.aws.credentials import Credentials, Source

_PATIENCE = 120.0
_LARGEST = 1 << 16
_AGAIN = 0.05


def document(credentials: Credentials) -> str:
    """Credentials as a `credential_process` prints them, on one line.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
    """
    expires = credentials.expiration.astimezone(UTC) if credentials.expiration else None
    found = {
        "Version": 1,
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "SessionToken": credentials.session_token,
        "Expiration": f"{expires:%Y-%m-%dT%H:%M:%SZ}" if expires else None,
    }
    return json.dumps({key: value for key, value in found.items() if value is not None}) + "\n"


@contextlib.contextmanager
def serving(path: Path, source: Source, warn: Callable[[str], None]) -> Iterator[None]:
    """Give `source`'s credentials to whoever may open the socket at `path`; `warn` is told when
    there are none.
    """
    server = _Server(path, source, warn)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    with server:
        path.chmod(0o600)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            path.unlink(missing_ok=True)


def ask(path: Path) -> str:
    """The document that the run behind a socket gives. Raises IdentityError."""
    answer = bytearray()
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_PATIENCE)
            _connect(client, path)
            while len(answer) < _LARGEST and (part := client.recv(_LARGEST)):
                answer += part
        found = json.loads(answer)
        why = found.get("error")
    except (OSError, ValueError, AttributeError):
        why = "nobody answers at its socket"
    if why is not None:
        raise IdentityError(
            "oidc-not-served",
            f"the run that this process belongs to gives no credentials: {why}",
            hint="Credentials last as long as the run does. Its own log says more.",
            where=str(path),
        )
    return answer.decode()


def _connect(client: socket.socket, path: Path) -> None:
    """Connect, and wait for a place in the queue: a unix socket refuses at once where a TCP one
    would wait.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            client.connect(str(path))
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(_AGAIN)
        else:
            return


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128  # Terraform, dbt and their providers may all ask at the same moment

    def __init__(self, path: Path, source: Source, warn: Callable[[str], None]) -> None:
        super().__init__(str(path), _Handler)
        self._source, self._warn = source, warn
        self._told: set[str] = set()

    def answer(self) -> str:
        try:
            return document(self._source())
        except CipipeError as error:
            why = f"{error.message} [{error.id}]"
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to; the child is told instead
            why = f"this is a bug in cipipe: {type(error).__name__}"
        if why not in self._told:  # AWS's tools ask several times before they give up
            self._told.add(why)
            self._warn(f"the credentials of this run could not be renewed: {why}")
        return json.dumps({"error": why})


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # whoever asked has gone
            self.wfile.write(self.server.answer().encode())
