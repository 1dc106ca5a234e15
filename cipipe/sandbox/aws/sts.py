"""AssumeRoleWithWebIdentity and AssumeRole as AWS does them.

Tokens are verified, and trust policies are evaluated.

Codes and texts are AWS's, from its API reference and from answers of the
service that people have published. Here the trust policy alone decides: what
the caller's own policies allow is checked before, if the sandbox enforces
IAM.
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

import jwt

from cipipe.errors import CipipeError
from cipipe.oidc import claims as tokens
from cipipe.oidc.request import Request, provider_arn, request_for
from cipipe.oidc.trust_policy import evaluate
from cipipe.partitions import partition_of
from cipipe.sandbox.aws.backend import MotoBackend
from cipipe.sandbox.aws.callers import IssuedSession, SessionTable, assume_role_request
from cipipe.sandbox.aws.sts_rules import (
    AssumeRoleParameters,
    StsError,
    parameters_of,
    required,
)
from cipipe.sandbox.web import Response

# Returns the JSON document at an issuer's URL. Raises CipipeError.
FetchJson = Callable[[str], Any]

# Turns a trust policy and the current call into what the evaluator takes.
AsSeen = Callable[[Mapping[str, Any]], tuple[Mapping[str, Any], Request]]

# A region of each partition: an unsigned request does not say which region
# it was sent to.
_A_REGION = {
    "aws": "us-east-1",
    "aws-cn": "cn-north-1",
    "aws-us-gov": "us-gov-west-1",
    "aws-eusc": "eusc-de-east-1",
    "aws-iso": "us-iso-east-1",
    "aws-iso-b": "us-isob-east-1",
    "aws-iso-e": "eu-isoe-west-1",
    "aws-iso-f": "us-isof-south-1",
}

# Seconds that an issuer's clock may be ahead.
_LEEWAY = 60

_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_NOT_A_JWT = (
    "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
)
# The two spaces are AWS's.
_NO_KEY = (
    "Couldn't retrieve verification key from your identity provider,  please reference "
    "AssumeRoleWithWebIdentity documentation for requirements"
)
_DENIED = "Not authorized to perform sts:AssumeRoleWithWebIdentity"


class Sts:
    """The exchange, a log of the tokens that were accepted, and the sessions that were issued."""

    def __init__(self, backend: MotoBackend, fetch: FetchJson) -> None:
        self._backend = backend
        self._fetch = fetch
        self._lock = threading.Lock()
        self._accepted: list[dict[str, Any]] = []
        self.sessions = SessionTable()

    @property
    def exchanges(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._accepted)

    def web_identity(self, form: Mapping[str, str], region: str) -> Response:
        """The whole HTTP answer to AssumeRoleWithWebIdentity with these parameters."""
        return _answer("AssumeRoleWithWebIdentity", lambda: self._exchange(form, region))

    def assume_role(
        self, form: Mapping[str, str], region: str, *, access_key_id: str, account: str
    ) -> Response:
        """The whole HTTP answer to AssumeRole, signed with that key of that account."""
        caller = self.sessions.of(access_key_id)
        return _answer("AssumeRole", lambda: self._chain(form, region, caller, account=account))

    def _exchange(self, form: Mapping[str, str], region: str) -> str:
        token = required(form, "WebIdentityToken")
        wanted = parameters_of(form)
        claims, kid, audience = self._verified(token, wanted)
        request = request_for(
            claims,
            account_id=wanted.account,
            partition=wanted.partition,
            session_name=wanted.session_name,
        )
        if not self._trusts(wanted, lambda policy: (policy, request)):
            raise StsError("AccessDenied", _DENIED, 403)

        session = self._issue(wanted, region)
        accepted = {
            "issuer": claims.issuer,
            "sub": claims.subject,
            "aud": audience,
            "jti": claims.payload.get("jti"),
            "role": wanted.role_arn,
            "kid": kid,
            "verified": True,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with self._lock:
            self._accepted.append(accepted)

        seen = {
            "SubjectFromWebIdentityToken": claims.subject,
            "Audience": audience,
            "Provider": request.provider,
        }
        elements = [f"<{name}>{escape(text)}</{name}>" for name, text in seen.items()]
        return "".join(elements) + _session_xml(session)

    def _chain(
        self, form: Mapping[str, str], region: str, caller: IssuedSession | None, *, account: str
    ) -> str:
        """`caller` is None for an administrator or a user of the account."""
        wanted = parameters_of(form, chained=caller is not None)

        def seen(policy: Mapping[str, Any]) -> tuple[Mapping[str, Any], Request]:
            return assume_role_request(
                policy, account=account, session=caller, session_name=wanted.session_name
            )

        if not self._trusts(wanted, seen):
            name = caller.arn if caller else f"arn:aws:iam::{account}:root"
            raise StsError(
                "AccessDenied",
                f"User: {name} is not authorized to perform: sts:AssumeRole on resource: "
                f"{wanted.role_arn}",
                403,
            )
        return _session_xml(self._issue(wanted, region))

    def _trusts(self, wanted: AssumeRoleParameters, seen: AsSeen) -> bool:
        """Whether the role exists and its trust policy allows the request.

        AWS does not say which of the two is wrong either.
        """
        role = self._backend.role(wanted.role_arn, wanted.account, wanted.partition)
        if role is None:
            return False
        try:
            policy, request = seen(self._backend.trust_policy(role))
            if evaluate(policy, request).verdict != "allowed":
                return False
        except (CipipeError, ValueError):
            return False

        # Checked last: who may not assume a role does not learn its limits.
        if wanted.duration > int(getattr(role, "max_session_duration", None) or 3600):
            raise StsError(
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            )
        return True

    def _issue(self, wanted: AssumeRoleParameters, region: str) -> Any:
        same_partition = partition_of(region) == wanted.partition
        session = self._backend.assume(
            role_arn=wanted.role_arn,
            account_id=wanted.account,
            partition=wanted.partition,
            region=region if same_partition else _A_REGION[wanted.partition],
            session_name=wanted.session_name,
            duration=min(wanted.duration, self.sessions.longest or wanted.duration),
        )
        issued = IssuedSession(
            arn=session.arn,
            role_arn=wanted.role_arn,
            expires=session.expiration.replace(tzinfo=UTC),
            secret=session.secret_access_key,
            token=session.session_token,
            policies=self._session_policies(wanted),
        )
        self.sessions.add(session.access_key_id, issued)
        return session

    def _session_policies(self, wanted: AssumeRoleParameters) -> tuple[str, ...]:
        if not wanted.policy_arns:
            return (wanted.policy,) if wanted.policy else ()
        found = self._backend.documents(wanted.policy_arns, wanted.account, wanted.partition)
        return (*found, wanted.policy) if wanted.policy else found

    def _verified(
        self, token: str, wanted: AssumeRoleParameters
    ) -> tuple[tokens.TokenClaims, str, str]:
        """The claims of a valid token, the id of its key, and its audience that is accepted."""
        try:
            claims = tokens.decode(token)
            tokens.check_signed(claims)

            # A missing audience has a text of its own below.
            tokens.check_form(claims, needed=set(tokens.REQUIRED_CLAIMS) - {"aud"})
        except CipipeError:
            raise StsError("InvalidIdentityToken", _NOT_A_JWT) from None

        provider = provider_arn(
            claims.issuer, account_id=wanted.account, partition=wanted.partition
        )
        client_ids = self._backend.client_ids(provider, wanted.account, wanted.partition)
        if client_ids is None:
            raise StsError(
                "InvalidIdentityToken",
                f"No OpenIDConnect provider found in your account for {claims.issuer}",
            )

        kid = self._verify_signature(token, claims)
        _verify_times(claims)
        audience = next((name for name in claims.audiences if name in client_ids), None)
        if audience is None:
            raise StsError("InvalidIdentityToken", "Incorrect token audience")
        return claims, kid, audience

    def _verify_signature(self, token: str, claims: tokens.TokenClaims) -> str:
        """The id of the key. Raises StsError."""
        try:
            document = self._fetch(f"{claims.issuer}/.well-known/openid-configuration")
            if document["issuer"] != claims.issuer:
                raise StsError("InvalidIdentityToken", _NO_KEY)
            keys = {key["kid"]: key for key in self._fetch(document["jwks_uri"])["keys"]}
            kid = str(claims.header.get("kid"))
            key = jwt.PyJWK(keys[kid], claims.header["alg"])
        except (CipipeError, KeyError, TypeError, jwt.PyJWTError):
            raise StsError("InvalidIdentityToken", _NO_KEY) from None

        # The algorithm is the token's own choice, but check_signed accepted
        # only those of STS.
        try:
            jwt.api_jws.decode(token, key, algorithms=[claims.header["alg"]])
        except jwt.PyJWTError:
            raise StsError("InvalidIdentityToken", "Token signature invalid") from None
        return kid


def _verify_times(claims: tokens.TokenClaims) -> None:
    now = int(datetime.now(UTC).timestamp())
    times: dict[str, Any] = {name: claims.payload.get(name) for name in ("exp", "iat", "nbf")}
    if times["nbf"] is None:
        times["nbf"] = 0
    if not all(isinstance(time, int) for time in times.values()):
        raise StsError("InvalidIdentityToken", _NOT_A_JWT)

    if now >= times["exp"]:
        raise StsError(
            "ExpiredTokenException",
            f"Token expired: current date/time {now} must be before the expiration date/time "
            f"{times['exp']}",
        )
    if max(times["iat"], times["nbf"]) > now + _LEEWAY:
        raise StsError("InvalidIdentityToken", "Token not yet valid")


def refusal(action: str, error: StsError) -> Response:
    """The whole HTTP answer to an action that STS refuses at once."""

    def refuse() -> str:
        raise error

    return _answer(action, refuse)


def _answer(action: str, act: Callable[[], str]) -> Response:
    """The answer with the XML that `act` returns, or with the StsError that it raises."""
    identifier = str(uuid.uuid4())
    status = 200
    try:
        result = act()
    except StsError as error:
        status = error.status
        xml = (
            f'<ErrorResponse xmlns="{_NAMESPACE}">'
            f"<Error><Type>Sender</Type><Code>{error.code}</Code>"
            f"<Message>{escape(error.text)}</Message></Error>"
            f"<RequestId>{identifier}</RequestId></ErrorResponse>"
        )
    else:
        xml = (
            f'<{action}Response xmlns="{_NAMESPACE}">'
            f"<{action}Result>{result}</{action}Result>"
            f"<ResponseMetadata><RequestId>{identifier}</RequestId></ResponseMetadata>"
            f"</{action}Response>"
        )
    return Response(xml, status, [("x-amzn-RequestId", identifier)], content_type="text/xml")


def _session_xml(session: Any) -> str:
    """moto's session as AWS answers it."""
    expiration = session.expiration.strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        f"<AssumedRoleUser><Arn>{session.arn}</Arn>"
        f"<AssumedRoleId>{session.user_id}</AssumedRoleId></AssumedRoleUser>"
        f"<Credentials><AccessKeyId>{session.access_key_id}</AccessKeyId>"
        f"<SecretAccessKey>{session.secret_access_key}</SecretAccessKey>"
        f"<SessionToken>{session.session_token}</SessionToken>"
        f"<Expiration>{expiration}</Expiration></Credentials>"
    )
