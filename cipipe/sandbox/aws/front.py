"""The AWS endpoint: one address for every service, in front of moto.

A request is answered if it is signed with keys that this sandbox issued and,
where the sandbox enforces IAM, if the caller's role allows it. The token
exchange, AssumeRole and ECR's images are answered here. All else is passed to
moto unchanged, with the account of its access key.
"""

import io
import json
import urllib.parse
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from cipipe.sandbox import peers
from cipipe.sandbox.aws import refusals
from cipipe.sandbox.aws.backend import MotoBackend
from cipipe.sandbox.aws.ecr import TARGET, Ecr
from cipipe.sandbox.aws.iam.call import Call, Existing
from cipipe.sandbox.aws.iam.enforcement import Enforcement
from cipipe.sandbox.aws.refusals import refused
from cipipe.sandbox.aws.signatures import BadSignature, Proof, Received, proof_of, verify
from cipipe.sandbox.aws.sts import Sts, refusal
from cipipe.sandbox.aws.sts_rules import StsError
from cipipe.sandbox.web import Request, Response, StartResponse, WSGIEnvironment, json_answer

_FORM = "application/x-www-form-urlencoded"


class Front:
    """The endpoint as a WSGI application."""

    def __init__(
        self,
        backend: MotoBackend,
        sts: Sts,
        ecr: Ecr | None,
        *,
        identity: str,
        region: str,
        enforcement: Enforcement | None = None,
    ) -> None:
        self._backend = backend
        self._sts = sts
        self._ecr = ecr

        # None: every valid key may do everything.
        self._enforcement = enforcement

        # Answered by `GET /_cipipe/health`, so that clients can tell this
        # sandbox from another one.
        self._identity = identity

        # The region of requests whose signature does not name one.
        self._region = region

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        answer = self._answer(request, _received(request))
        if answer is not None:
            return answer(environ, start_response)
        with self._backend.turn(request.environ):
            return self._backend.app(environ, start_response)

    def _answer(self, request: Request, received: Received) -> Response | None:
        """The answer to a request; None if moto has to give it."""
        if request.path.startswith("/_cipipe/"):
            allowed = peers.permitted(request.environ)
            return self._own(request) if allowed else peers.refusal(request)

        form = _form(request)
        action = form.get("Action", "")
        proof, problem = _proof(received)
        region = proof.region if proof else self._region

        # AWS ignores a signature here, good or bad: the token is the proof.
        if action == "AssumeRoleWithWebIdentity":
            return self._sts.web_identity(form, region)
        if action in {"AssumeRoleWithSAML", "AssumeRoot"}:
            text = f"Could not find operation {action} for version 2011-06-15"
            return refusal(action, StsError("InvalidAction", text))

        if proof is None:
            return _unproven(request, action, problem)
        if refusing := self._checked(request, received, proof):
            return refusing

        account = self._backend.account_of(proof.key)
        if forbidden := self._forbidden(request, form, proof, account):
            return forbidden
        request.environ["HTTP_X_MOTO_ACCOUNT_ID"] = account
        _name_checksum(request.environ)
        if action == "AssumeRole":
            return self._sts.assume_role(form, region, access_key_id=proof.key, account=account)

        # moto cannot parse such a target, and would answer with a
        # traceback.
        target = request.headers.get("X-Amz-Target")
        if request.path == "/" and target is not None and "." not in target:
            return json_answer({"__type": "UnknownOperationException"}, 400)
        return self._images(request, account, region)

    def _checked(self, request: Request, received: Received, proof: Proof) -> Response | None:
        """The refusal of a request that is not signed with valid keys of this sandbox."""
        session = self._sts.sessions.of(proof.key)
        secret = session.secret if session else self._backend.secret_of(proof.key)
        if secret is None or (session and proof.token != session.token):
            return refused(refusals.UNKNOWN_KEY, proof.service, request)
        try:
            verify(received, proof, secret, body=lambda: _body(request), now=datetime.now(UTC))
        except BadSignature as error:
            return refused(_bad(error), proof.service, request)
        if session and session.expired:
            return refused(refusals.EXPIRED, proof.service, request)
        return None

    def _forbidden(
        self, request: Request, form: dict[str, str], proof: Proof, account: str
    ) -> Response | None:
        """The refusal of a request that the caller's role does not allow."""
        session = self._sts.sessions.of(proof.key)
        if self._enforcement is None or session is None:
            return None
        call = _call(request, form, proof, account, self._enforcement.resources)
        found = self._enforcement.refused(call, session)
        return None if found is None else refused(found, proof.service, request)

    def _own(self, request: Request) -> Response:
        """The answers for clients of the sandbox itself."""
        match request.method, request.path:
            case "GET", "/_cipipe/health":
                return json_answer({"sandbox": self._identity})
            case "GET", "/_cipipe/exchanges":
                return json_answer({"exchanges": self._sts.exchanges})
            case "GET", "/_cipipe/secret-hashes":
                return json_answer({"sha256": self._sts.sessions.secret_hashes})
            case "GET", "/_cipipe/permissions":
                needed = self._enforcement.needed if self._enforcement else []
                return json_answer({"permissions": needed})
            case "POST", "/_cipipe/longest-session":
                self._sts.sessions.longest = json.loads(request.get_data())["seconds"]
                return json_answer({})
        return json_answer({"error": f"nothing at {request.path}"}, 404)

    def _images(self, request: Request, account: str, region: str) -> Response | None:
        target = request.headers.get("X-Amz-Target", "")
        if self._ecr is None or not target.startswith(TARGET):
            return None
        body = _body(request)

        def forward() -> Response:
            _rewind(request, body)
            with self._backend.turn(request.environ):
                return Response.from_app(self._backend.app, request.environ, buffered=True)

        return self._ecr.answer(
            target.removeprefix(TARGET), body, account_id=account, region=region, forward=forward
        )


def _received(request: Request) -> Received:
    # The raw URI: what was signed is the encoded form, which werkzeug
    # decodes.
    path, _, query = str(request.environ["RAW_URI"]).partition("?")
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Received(method=request.method, path=path, query=query, headers=headers)


def _proof(received: Received) -> tuple[Proof | None, BadSignature | None]:
    try:
        return proof_of(received), None
    except BadSignature as error:
        return None, error


def _form(request: Request) -> dict[str, str]:
    """The parameters of a request in the query protocol; empty for any other request."""
    if request.path != "/":
        return {}
    form: dict[str, str] = dict(request.args.items())
    if request.method == "POST" and request.mimetype == _FORM:
        form |= urllib.parse.parse_qsl(_body(request).decode(errors="replace"))
    return form


def _call(
    request: Request, form: dict[str, str], proof: Proof, account: str, existing: Existing
) -> Call:
    """The request as permissions are derived from it."""
    operation = form.get("Action", "")
    parameters: Mapping[str, Any] = form
    target = request.headers.get("X-Amz-Target", "")
    if target:
        operation = target.rpartition(".")[2]
        found = json.loads(_body(request) or b"{}")
        parameters = found if isinstance(found, dict) else {}

    # The body of an object is not read, as it may be large.
    small = proof.service == "s3" and request.path.strip("/").count("/") == 0
    return Call(
        service=proof.service,
        operation=operation,
        account=account,
        region=proof.region,
        existing=existing,
        parameters=parameters,
        method=request.method,
        path=request.path,
        query=dict(request.args.items()),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=_body(request) if small else b"",
    )


def _unproven(request: Request, action: str, problem: BadSignature | None) -> Response:
    """The refusal of a request with a malformed signature, or without one."""
    # Without a signature nothing names the service. What is neither STS nor
    # JSON is S3.
    target = "X-Amz-Target" in request.headers
    if problem is not None:
        return refused(_bad(problem), "" if action or target else "s3", request)
    if action:
        unsigned = refusals.UNSIGNED
        return refusal(action, StsError(unsigned.query, unsigned.text, unsigned.status))
    return refused(refusals.UNSIGNED, "" if target else "s3", request)


def _bad(error: BadSignature) -> refusals.Refusal:
    return refusals.BAD_SIGNATURE._replace(text=str(error))


def _name_checksum(environ: WSGIEnvironment) -> None:
    """Name the algorithm of an object's checksum in a header of its own:
    moto stores it only then, S3 always.
    """
    for algorithm in ("SHA256", "SHA1", "CRC32", "CRC32C", "CRC64NVME"):
        if f"HTTP_X_AMZ_CHECKSUM_{algorithm}" in environ:
            environ.setdefault("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", algorithm)


def _body(request: Request) -> bytes:
    """The request's body, which can be read again by the next application."""
    body = request.get_data(cache=True, parse_form_data=False)
    _rewind(request, body)
    return body


def _rewind(request: Request, body: bytes) -> None:
    environ: dict[str, Any] = request.environ
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
