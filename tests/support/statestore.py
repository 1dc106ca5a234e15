"""A store of Terraform states over HTTP, as GitLab is one: basic auth, LOCK and UNLOCK, 423 with
the lock's own info.

docs.gitlab.com/user/infrastructure/iac/terraform_state, and lib/api/terraform/state.rb there:
an unlock without an ID releases any lock, which is what `terraform
force-unlock` does.
"""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PASSWORD = "store-pass-41c9"


@dataclass
class Store:
    """What the server keeps."""

    url: str = ""
    # By the state's name.
    states: dict[str, bytes] = field(default_factory=dict)
    # By the state's name: what Terraform said of itself when it locked.
    locks: dict[str, dict[str, Any]] = field(default_factory=dict)
    # Method and path of each request, in order.
    asked: list[str] = field(default_factory=list)
    # Where the first readers of a missing state wait for each other, so that all find none.
    meeting: threading.Barrier | None = None
    guard: threading.Lock = field(default_factory=threading.Lock)

    def settings(self, name: str) -> dict[str, Any]:
        """The settings of Terraform's backend for one of the states."""
        address = f"{self.url}/state/{name}"
        return {
            "address": address,
            "lock_address": f"{address}/lock",
            "unlock_address": f"{address}/lock",
            "lock_method": "POST",
            "unlock_method": "DELETE",
            "retry_max": 0,
        }

    def login(self, address: str) -> dict[str, str]:
        assert address.startswith(self.url)
        return {"TF_HTTP_USERNAME": "gitlab-ci-token", "TF_HTTP_PASSWORD": PASSWORD}

    def hold(self, name: str, **info: str) -> str:
        """Lock a state as somebody else; gives the lock's ID."""
        held = {
            "ID": "5b1f0d3e-2222-4c4c-9999-0123456789ab",
            "Operation": "OperationTypeApply",
            "Info": "",
            "Path": "",
        }
        self.locks[name] = {
            **held,
            "Version": "1.11.4",
            "Who": "ada@runner-3",
            "Created": "2026-02-03T04:05:06Z",
            **info,
        }
        return str(self.locks[name]["ID"])


@contextlib.contextmanager
def serving() -> Iterator[Store]:
    store = Store()

    class Handler(_Handler):
        kept = store

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    kept: Store

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        name, _, what = parts.path.removeprefix("/state/").partition("/")
        expected = base64.b64encode(f"gitlab-ci-token:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            self._answer(401)
            return
        meeting = self.kept.meeting
        if self.command == "GET" and meeting is not None and name not in self.kept.states:
            with contextlib.suppress(threading.BrokenBarrierError):
                meeting.wait(timeout=30)
            self.kept.meeting = None
        with self.kept.guard:
            self.kept.asked.append(f"{self.command} {parts.path}")
            self._answer(
                *(
                    self._lock(name, body)
                    if what == "lock"
                    else self._state(name, parts.query, body)
                )
            )

    do_GET = do_POST = do_DELETE = _any  # noqa: N815 - the server calls them so

    def _lock(self, name: str, body: bytes) -> tuple[int, bytes]:
        held = self.kept.locks.get(name)
        if self.command == "POST":
            if held is not None:
                return 423, json.dumps(held).encode()
            self.kept.locks[name] = json.loads(body)
            return 200, b""
        asked = json.loads(body).get("ID") if body else None
        if held is not None and asked not in {None, held["ID"]}:
            return 423, json.dumps(held).encode()
        self.kept.locks.pop(name, None)
        return 200, b""

    def _state(self, name: str, query: str, body: bytes) -> tuple[int, bytes]:
        if self.command == "GET":
            found = self.kept.states.get(name)
            return (404, b"") if found is None else (200, found)
        held, asked = self.kept.locks.get(name), parse_qs(query).get("ID", [None])[0]
        if held is not None and asked != held["ID"]:
            return 423, json.dumps(held).encode()
        if self.command == "POST":
            self.kept.states[name] = body
        else:
            self.kept.states.pop(name, None)
        return 200, b""

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
