"""A store of Terraform states over HTTP, in place of GitLab's or another one.

The path of a request is the address of the state without its scheme, so
that projects of several hosts keep apart. A lock is taken and given back by
the methods LOCK and UNLOCK, or, as GitLab has it, by POST and DELETE at the
state's address with `/lock` behind it.

https://developer.hashicorp.com/terraform/language/backend/http
https://docs.gitlab.com/user/infrastructure/iac/terraform_state
"""

import threading
from typing import Any

import msgspec

from cipipe import bounded
from cipipe.sandbox.web import Request, Response, StartResponse, WSGIEnvironment, json_answer

_LOCK = "/lock"


class _Lock(msgspec.Struct, frozen=True):
    """What Terraform says of itself when it locks."""

    id: str
    # All of it.
    info: dict[str, Any]


class States:
    """A WSGI application. It keeps states until the sandbox stops."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        # Both by address.
        self._states: dict[str, bytes] = {}
        self._locks: dict[str, _Lock] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        request = Request(environ)
        body = request.get_data()
        try:
            with self._guard:
                answer = self._answer(request, body)
        except ValueError:
            answer = json_answer({"error": "the lock is not a JSON object"}, 400)
        return answer(environ, start_response)

    def _answer(self, request: Request, body: bytes) -> Response:
        address = request.path
        action = request.method
        if address.endswith(_LOCK):
            address = address.removesuffix(_LOCK)
            action = {"POST": "LOCK", "DELETE": "UNLOCK"}.get(action, action)
        match action:
            case "LOCK":
                return self._lock(address, body)
            case "UNLOCK":
                return self._unlock(address, body)
            case "GET":
                state = self._states.get(address)
                return Response(state, 404 if state is None else 200)
            case "POST" | "PUT" | "DELETE":
                return self._change(address, action, request.args.get("ID"), body)
        return Response(status=405)

    def _lock(self, address: str, body: bytes) -> Response:
        wanted = _lock_of(body)
        held = self._locks.setdefault(address, wanted)
        return Response() if held is wanted else _locked(held)

    def _unlock(self, address: str, body: bytes) -> Response:
        held = self._locks.get(address)
        # `terraform force-unlock` sends nothing.
        if held is not None and body and _lock_of(body).id != held.id:
            return _locked(held)
        self._locks.pop(address, None)
        return Response()

    def _change(self, address: str, action: str, lock: str | None, body: bytes) -> Response:
        held = self._locks.get(address)
        if held is not None and lock != held.id:
            return _locked(held)
        if action == "DELETE":
            self._states.pop(address, None)
        else:
            self._states[address] = body
        return Response()


def _lock_of(body: bytes) -> _Lock:
    info = msgspec.convert(bounded.loads(body), dict[str, Any])
    return _Lock(str(info.get("ID")), info)


def _locked(held: _Lock) -> Response:
    return json_answer(held.info, 423)
