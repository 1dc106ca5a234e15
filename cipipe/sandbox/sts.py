"""AssumeRoleWithWebIdentity as AWS does it: the token is verified and the role's trust policy is evaluated.

Codes and texts are AWS's, from its API reference and from answers of the service that people have published.
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

import re
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

import jwt

from cipipe.errors import CipipeError
from cipipe.oidc import claims as tokens
from cipipe.oidc.request import ROLE_ARN, provider_arn, request_for
from cipipe.oidc.trust_policy import evaluate
from cipipe.sandbox.backend import Backend
from cipipe.sandbox.web import Response

FetchJson = Callable[[str], Any]
"""Gives the JSON document at an issuer's URL. Raises CipipeError."""

_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_NOT_A_JWT = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
_NO_KEY = (
    "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity "
    "documentation for requirements"
)
_DENIED = "Not authorized to perform sts:AssumeRoleWithWebIdentity"


class StsError(Exception):
    """A refusal, with AWS's code, text and HTTP status."""

    def __init__(self, code: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code, self.text, self.status = code, text, status


class Sts:
    """The exchange, and a log of the tokens that were accepted."""

    def __init__(self, backend: Backend, fetch: FetchJson) -> None:
        self._backend = backend
        self._fetch = fetch
        self._lock = threading.Lock()
        self._accepted: list[dict[str, Any]] = []

    @property
    def exchanges(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._accepted)

    def answer(self, form: Mapping[str, str], region: str) -> Response:
        """The whole HTTP answer to a request with these parameters."""
        identifier = str(uuid.uuid4())
        try:
            body, status = self._exchange(form, region), 200
        except StsError as error:
            body, status = (
                f"<Error><Type>Sender</Type><Code>{error.code}</Code><Message>{escape(error.text)}</Message></Error>",
                error.status,
            )
            xml = f'<ErrorResponse xmlns="{_NAMESPACE}">{body}<RequestId>{identifier}</RequestId></ErrorResponse>'
        else:
            xml = (
                f'<AssumeRoleWithWebIdentityResponse xmlns="{_NAMESPACE}">{body}'
                f"<ResponseMetadata><RequestId>{identifier}</RequestId></ResponseMetadata>"
                "</AssumeRoleWithWebIdentityResponse>"
            )
        return Response(xml, status, [("x-amzn-RequestId", identifier)], content_type="text/xml")

    def _exchange(self, form: Mapping[str, str], region: str) -> str:
        role_arn, session_name, duration = _parameters(form)
        match = ROLE_ARN.fullmatch(role_arn)
        if match is None:
            raise StsError("ValidationError", "Request ARN is invalid")
        account = match[2]
        claims, kid, audience = self._verified(form.get("WebIdentityToken", ""), account)
        role = self._backend.role(role_arn, account)
        request = request_for(claims, account_id=account, session_name=session_name)
        try:
            allowed = role is not None and evaluate(self._backend.trust_policy(role), request).verdict == "allowed"
        except (CipipeError, ValueError):
            allowed = False
        if not allowed:
            raise StsError("AccessDenied", _DENIED, 403)
        if duration > int(getattr(role, "max_session_duration", None) or 3600):
            raise StsError(
                "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            )
        session = self._backend.assume(
            role_arn=role_arn, account_id=account, region=region, session_name=session_name, duration=duration
        )
        with self._lock:
            self._accepted.append(
                {
                    "issuer": claims.issuer,
                    "sub": claims.subject,
                    "aud": audience,
                    "role": role_arn,
                    "kid": kid,
                    "verified": True,
                    "time": datetime.now(UTC).isoformat(timespec="seconds"),
                }
            )
        return _result(session, claims.subject, audience, request.provider)

    def _verified(self, token: str, account: str) -> tuple[tokens.Claims, str, str]:
        """The claims of a good token, the id of the key that signed it, and which of its audiences is accepted."""
        try:
            claims = tokens.decode(token)
        except CipipeError:
            raise StsError("InvalidIdentityToken", _NOT_A_JWT) from None
        if claims.header.get("alg") != "RS256" or not claims.subject or not claims.issuer.startswith("https://"):
            raise StsError("InvalidIdentityToken", _NOT_A_JWT)
        client_ids = self._backend.client_ids(provider_arn(claims.issuer, account_id=account), account)
        if client_ids is None:
            raise StsError(
                "InvalidIdentityToken", f"No OpenIDConnect provider found in your account for {claims.issuer}"
            )
        kid = self._verify_signature(token, claims)
        _verify_times(claims)
        audience = next((name for name in claims.audiences if name in client_ids), None)
        if audience is None:
            raise StsError("InvalidIdentityToken", "Incorrect token audience")
        return claims, kid, audience

    def _verify_signature(self, token: str, claims: tokens.Claims) -> str:
        try:
            document = self._fetch(f"{claims.issuer}/.well-known/openid-configuration")
            if document["issuer"] != claims.issuer:
                raise StsError("InvalidIdentityToken", _NO_KEY)
            keys = {key["kid"]: key for key in self._fetch(document["jwks_uri"])["keys"]}
            kid = str(claims.header.get("kid"))
            key = jwt.PyJWK(keys[kid], "RS256")
        except (CipipeError, KeyError, TypeError, jwt.PyJWTError):
            raise StsError("InvalidIdentityToken", _NO_KEY) from None
        try:
            jwt.api_jws.decode(token, key, algorithms=["RS256"])
        except jwt.PyJWTError:
            raise StsError("InvalidIdentityToken", "Token signature invalid") from None
        return kid


def _parameters(form: Mapping[str, str]) -> tuple[str, str, int]:
    for name in ("RoleArn", "RoleSessionName", "WebIdentityToken"):
        if not form.get(name):
            at = name[0].lower() + name[1:]
            raise _constraint("null", at, "Member must not be null")
    session_name, text = form["RoleSessionName"], form.get("DurationSeconds", "3600")
    if not re.fullmatch(r"[\w+=,.@-]*", session_name, re.ASCII):
        raise _constraint(
            session_name, "roleSessionName", r"Member must satisfy regular expression pattern: [\w+=,.@-]*"
        )
    if len(session_name) < 2:
        raise _constraint(session_name, "roleSessionName", "Member must have length greater than or equal to 2")
    if len(session_name) > 64:
        raise _constraint(session_name, "roleSessionName", "Member must have length less than or equal to 64")
    duration = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else -1
    if duration < 900:
        raise _constraint(text, "durationSeconds", "Member must have value greater than or equal to 900")
    if duration > 43200:
        raise _constraint(text, "durationSeconds", "Member must have value less than or equal to 43200")
    return form["RoleArn"], session_name, duration


def _constraint(value: str, at: str, rule: str) -> StsError:
    shown = value if value == "null" else f"'{value}'"
    text = f"1 validation error detected: Value {shown} at '{at}' failed to satisfy constraint: {rule}"
    return StsError("ValidationError", text)


def _verify_times(claims: tokens.Claims) -> None:
    now = int(datetime.now(UTC).timestamp())
    times = {name: claims.payload.get(name) for name in ("exp", "nbf", "iat")}
    if not isinstance(times["exp"], int) or not isinstance(times["iat"], int):
        raise StsError("InvalidIdentityToken", _NOT_A_JWT)
    if now >= times["exp"]:
        text = f"Token expired: current date/time {now} must be before the expiration date/time {times['exp']}"
        raise StsError("ExpiredTokenException", text)
    if max(times["iat"], times["nbf"] or 0) > now + 60:
        raise StsError("InvalidIdentityToken", "Token not yet valid")


def _result(session: Any, subject: str, audience: str, provider: str) -> str:
    expiration = session.expiration.strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        "<AssumeRoleWithWebIdentityResult>"
        f"<SubjectFromWebIdentityToken>{escape(subject)}</SubjectFromWebIdentityToken>"
        f"<Audience>{escape(audience)}</Audience><Provider>{escape(provider)}</Provider>"
        f"<AssumedRoleUser><Arn>{session.arn}</Arn><AssumedRoleId>{session.user_id}</AssumedRoleId></AssumedRoleUser>"
        f"<Credentials><AccessKeyId>{session.access_key_id}</AccessKeyId>"
        f"<SecretAccessKey>{session.secret_access_key}</SecretAccessKey>"
        f"<SessionToken>{session.session_token}</SessionToken><Expiration>{expiration}</Expiration></Credentials>"
        "</AssumeRoleWithWebIdentityResult>"
    )
