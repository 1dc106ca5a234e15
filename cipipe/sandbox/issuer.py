"""The OIDC issuer: it plays gitlab.com and
token.actions.githubusercontent.com, with keys made at its start.

The Host header decides whose discovery document is served, so that tokens
and trust policies in the sandbox are exactly those of production. Whoever
has to reach an issuer's URL calls `connect_to`.
"""

import base64
import hashlib
import secrets
import urllib.parse
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa

from cipipe.sandbox.tokens import GITHUB, GITLAB, ISSUERS, TokenRequest, payload
from cipipe.sandbox.web import Request, Response, StartResponse, WSGIEnvironment, json_answer
from cipipe.tools import http

# Both follow the issuer's URL, which may have a path of its own.
_DISCOVERY_PATH = "/.well-known/openid-configuration"
KEYS_PATH = {GITLAB: "/oauth/discovery/keys", GITHUB: "/.well-known/jwks"}


class Issuer:
    """A WSGI application: discovery documents, keys, and the paths that
    mint tokens.

    - `POST /_cipipe/token`: a `TokenRequest` as JSON → `{"value": token}`.
    - `POST /_cipipe/github-job`: the same, kept for a job → `{"request_url", "request_token"}`,
      the values of `ACTIONS_ID_TOKEN_REQUEST_URL` and `ACTIONS_ID_TOKEN_REQUEST_TOKEN` in it.
    - `GET /_cipipe/github-token?audience=…` with `Authorization: bearer …`: what a GitHub job
      requests with those two → `{"value": token}`.
    """

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        self._numbers = self._key.public_key().public_numbers()
        self.kid = _base64(hashlib.sha256(_bytes(self._numbers.n)).digest())[:43]

        # Bearer token → the job that it was made for.
        self._jobs: dict[str, TokenRequest] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        request = Request(environ)
        try:
            answer = self._answer(request)
        except (msgspec.MsgspecError, ValueError) as error:
            answer = json_answer({"error": str(error)}, 400)
        return answer(environ, start_response)

    def mint(self, request: TokenRequest) -> str:
        """A token with the claims of `tokens.payload`, signed as requested. Raises ValueError."""
        claims = payload(request)
        if request.alg == "none":
            return jwt.encode(claims, "", algorithm="none")

        # Another key under the published key's id: a forged token.
        key = self._key if request.key == "published" else rsa.generate_private_key(65537, 2048)
        return jwt.encode(claims, key, algorithm=request.alg, headers={"kid": self.kid})

    def _answer(self, request: Request) -> Response:
        if request.method == "GET":
            url = f"https://{request.host}{request.path}"
            for issuer in ISSUERS.values():
                if url == issuer + _DISCOVERY_PATH:
                    return json_answer(_discovery(issuer))
                if url == issuer + KEYS_PATH[issuer]:
                    return json_answer({"keys": [self._jwk()]})

        match request.method, request.path:
            case "GET", "/_cipipe/health":
                return json_answer({"issuer": "up"})
            case "POST", "/_cipipe/token":
                return json_answer({"value": self.mint(_requested(request))})
            case "POST", "/_cipipe/github-job":
                bearer = secrets.token_urlsafe(24)
                self._jobs[bearer] = msgspec.structs.replace(_requested(request), flavour="github")
                url = f"{request.host_url}_cipipe/github-token?api-version=2.0"
                return json_answer({"request_url": url, "request_token": bearer})
            case "GET", "/_cipipe/github-token":
                return self._github(request)
        return json_answer({"error": f"nothing at {request.path} of {request.host}"}, 404)

    def _github(self, request: Request) -> Response:
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        job = self._jobs.get(bearer)
        if scheme.lower() != "bearer" or job is None:
            return json_answer({"message": "Bad credentials"}, 401)

        # GitHub's default audience is the URL of the repository's owner.
        owner = job.project.partition("/")[0]
        audience = request.args.get("audience") or f"https://github.com/{owner}"
        return json_answer({"value": self.mint(msgspec.structs.replace(job, audience=audience))})

    def _jwk(self) -> dict[str, str]:
        return {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.kid,
            "n": _base64(_bytes(self._numbers.n)),
            "e": _base64(_bytes(self._numbers.e)),
        }


def connect_to(url: str, issuer_url: str, *, timeout: float = 5.0) -> Any:
    """GET a JSON document of an issuer from the sandbox's, as
    `curl --connect-to` would.

    Raises HttpError, also for any other issuer.
    """
    for issuer in ISSUERS.values():
        if url.startswith(f"{issuer}/"):
            host = urllib.parse.urlsplit(url).netloc
            local = issuer_url + url.removeprefix(f"https://{host}")
            return http.get_json(local, headers={"Host": host}, timeout=timeout)
    raise http.HttpError("GET", url, "the sandbox reaches no issuer but its own")


def _requested(request: Request) -> TokenRequest:
    return msgspec.json.decode(request.get_data(), type=TokenRequest)


def _discovery(issuer: str) -> dict[str, Any]:
    return {
        "issuer": issuer,
        "jwks_uri": issuer + KEYS_PATH[issuer],
        "subject_types_supported": ["public"],
        "response_types_supported": ["id_token"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid"],
        "claims_supported": sorted(payload(_sample(issuer))),
    }


def _sample(issuer: str) -> TokenRequest:
    """Any token of an issuer: its claims are those that it supports."""
    flavour = next(name for name, url in ISSUERS.items() if url == issuer)
    return TokenRequest(project="group/project", ref="main", audience="audience", flavour=flavour)


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
