"""Credentials for the processes that a run starts, over a unix socket.
AWS's tools ask again before a session expires.

The token stays in this process. Every connection is answered with one JSON
document: credentials in the form of AWS's `credential_process`, or the
reason why there are none.
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

# Seconds. A session may have to be renewed first, with retries.
_PATIENCE = 120.0

# Bytes of an answer.
_LARGEST = 1 << 16

# Seconds between two attempts to connect.
_PAUSE = 0.05


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

    # A key with null would be an error to AWS's tools.
    return json.dumps({key: value for key, value in found.items() if value is not None}) + "\n"


@contextlib.contextmanager
def serving(path: Path, source: Source, warn: Callable[[str], None]) -> Iterator[None]:
    """Serve `source`'s credentials at the socket `path`; `warn` is called when there are none."""
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
    """The document of the run that serves a socket. Raises IdentityError."""
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
        why = "nothing answers at its socket"
    if why is not None:
        raise IdentityError(
            "oidc-not-served",
            f"the run that this process belongs to provides no credentials: {why}",
            hint="Credentials are available as long as the run lasts. Its own log says more.",
            where=str(path),
        )
    return answer.decode()


def _connect(client: socket.socket, path: Path) -> None:
    """Connect, and wait while the queue is full: a unix socket refuses then, a TCP one waits."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            client.connect(str(path))
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE)
        else:
            return


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    # Terraform, dbt and their providers may all ask at the same moment.
    request_queue_size = 128

    def __init__(self, path: Path, source: Source, warn: Callable[[str], None]) -> None:
        super().__init__(str(path), _Handler)
        self._source = source
        self._warn = warn
        self._warned: set[str] = set()

    def answer(self) -> str:
        try:
            return document(self._credentials())
        except CipipeError as error:
            why = f"{error.message} [{error.id}]"
        except Exception as error:  # noqa: BLE001
            # A thread cannot raise to anybody, so the child reports it.
            why = f"this is a bug in cipipe: {type(error).__name__}"

        # AWS's tools ask several times before they give up; one warning is
        # enough.
        if why not in self._warned:
            self._warned.add(why)
            self._warn(f"the credentials of this run could not be renewed: {why}")
        return json.dumps({"error": why})

    def _credentials(self) -> Credentials:
        try:
            return self._source()
        except KeyboardInterrupt:
            # An interrupt cut a renewal short. The child needs credentials
            # to clean up (Terraform releases its lock), and requests that
            # start after an interrupt are not cut short.
            return self._source()


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        # The client may have gone by now.
        with contextlib.suppress(OSError):
            self.wfile.write(self.server.answer().encode())
