"""The AWS endpoint: one address for everything, in front of moto.

The token exchange, AssumeRole and ECR's images are answered here, and what a session's keys sign when it has expired is
refused; all else goes to moto as it came, with the account added that its access key belongs to.
"""

import io
import json
import re
import urllib.parse
from collections.abc import Iterable
from typing import Any

from cipipe.sandbox.backend import Backend
from cipipe.sandbox.ecr import TARGET, Ecr
from cipipe.sandbox.expired import expired
from cipipe.sandbox.sts import Sts, refusal
from cipipe.sandbox.sts_rules import StsError
from cipipe.sandbox.web import Request, Response, StartResponse, WSGIEnvironment, json_answer

_SCOPE = re.compile(r"Credential=([\w-]+)/\d+/([\w-]+)/([\w-]+)/aws4_request")
_FORM = "application/x-www-form-urlencoded"
_UNSIGNED = "Request is missing Authentication Token"


class Front:
    """A WSGI application. `identity` is what `GET /_cipipe/health` answers with, so that a client knows whom it met."""

    def __init__(self, backend: Backend, sts: Sts, ecr: Ecr | None, *, identity: str, region: str) -> None:
        self._backend, self._sts, self._ecr = backend, sts, ecr
        self._identity = identity
        self._region = region

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        scope = _SCOPE.search(request.headers.get("Authorization", "")) or _SCOPE.search(
            "Credential=" + request.args.get("X-Amz-Credential", "")
        )
        account = self._backend.account_of(scope[1]) if scope else self._backend.account_id
        region = scope[2] if scope else self._region
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = account
        _name_checksum(environ)
        answer = (
            self._own(request)
            or (self._expired(request, scope[1], scope[3]) if scope else None)
            or self._exchange(request, region, scope[1] if scope else None, account)
            or self._images(request, account, region)
        )
        if answer is not None:
            return answer(environ, start_response)
        return self._backend.app(environ, start_response)

    def _own(self, request: Request) -> Response | None:
        match request.method, request.path:
            case "GET", "/_cipipe/health":
                return json_answer({"sandbox": self._identity})
            case "GET", "/_cipipe/exchanges":
                return json_answer({"exchanges": self._sts.exchanges})
            case "GET", "/_cipipe/secret-hashes":
                return json_answer({"sha256": self._sts.sessions.secret_hashes})
            case "POST", "/_cipipe/longest-session":
                self._sts.sessions.longest = json.loads(request.get_data())["seconds"]
                return json_answer({})
        return None

    def _expired(self, request: Request, key: str, service: str) -> Response | None:
        session = self._sts.sessions.of(key)
        return expired(service, request) if session and session.expired else None

    def _exchange(self, request: Request, region: str, key: str | None, account: str) -> Response | None:
        if request.path != "/":
            return None
        form: dict[str, str] = dict(request.args.items())
        if request.method == "POST" and request.mimetype == _FORM:
            body = request.get_data(cache=True, parse_form_data=False)
            form |= urllib.parse.parse_qsl(body.decode(errors="replace"))
            _rewind(request, body)
        action = form.get("Action", "")
        if action == "AssumeRoleWithWebIdentity":  # AWS does not look at a signature here, good or bad
            return self._sts.web_identity(form, region)
        if action in {"AssumeRoleWithSAML", "AssumeRoot"}:
            return refusal(
                action, StsError("InvalidAction", f"Could not find operation {action} for version 2011-06-15")
            )
        if action and key is None:
            return refusal(action, StsError("MissingAuthenticationToken", _UNSIGNED, 403))
        if action == "AssumeRole" and key is not None:
            return self._sts.assume_role(form, region, key, account)
        if "X-Amz-Target" in request.headers:
            return _no_target(request.headers["X-Amz-Target"], signed=key is not None)
        return None

    def _images(self, request: Request, account: str, region: str) -> Response | None:
        target = request.headers.get("X-Amz-Target", "")
        if self._ecr is None or not target.startswith(TARGET):
            return None
        body = request.get_data(cache=True)

        def forward() -> Response:
            _rewind(request, body)
            return Response.from_app(self._backend.app, request.environ, buffered=True)

        return self._ecr.answer(target.removeprefix(TARGET), body, account_id=account, region=region, forward=forward)


def _no_target(target: str, *, signed: bool) -> Response | None:
    """AWS's answer to a JSON request that nobody signed, or that names no operation; None where it is a good one."""
    if not signed:
        return json_answer({"__type": "MissingAuthenticationTokenException", "message": _UNSIGNED}, 400)
    return None if "." in target else json_answer({"__type": "UnknownOperationException"}, 400)


def _name_checksum(environ: WSGIEnvironment) -> None:
    """S3 keeps a checksum that comes with an object; moto keeps it only where its algorithm is named besides."""
    for algorithm in ("SHA256", "SHA1", "CRC32", "CRC32C", "CRC64NVME"):
        if f"HTTP_X_AMZ_CHECKSUM_{algorithm}" in environ:
            environ.setdefault("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", algorithm)


def _rewind(request: Request, body: bytes) -> None:
    """Put a body that was read back, for the application that comes next."""
    environ: dict[str, Any] = request.environ
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
