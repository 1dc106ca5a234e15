"""From a token to credentials: everything is checked that can be before AWS is asked, and every
refusal explains itself.

The token and the keys it gets are registered with the redactor the moment they are seen here.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from cipipe.errors import CipipeError, IdentityError
from cipipe.oidc import claims as jwt
from cipipe.oidc import refusals
from cipipe.oidc.session import SessionRequest, check
from cipipe.redact import Redactor
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError, AwsUnreachable
from cipipe.tools.aws.sts import Assumed, RoleSession, assume_role_with_web_identity

ATTEMPTS = 5
_FIRST_WAIT = 0.5
_TRANSIENT = {
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "IDPCommunicationError",
    "RequestTimeout",
}

ReadPolicy = Callable[[], Mapping[str, Any] | None]
"""Gives the role's trust policy, or None where it may not be read. An error in it is not an error
of the exchange.
"""


def exchange(
    token: str | None,
    session: SessionRequest,
    *,
    endpoint: Endpoint,
    audience: str,
    redactor: Redactor,
    read_policy: ReadPolicy | None = None,
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
    precheck: bool = True,
) -> Credentials:
    """Exchange an ID token for temporary credentials of a role (sts:AssumeRoleWithWebIdentity).

    Throttling, 5xx, no answer, IDPCommunicationError and "Couldn't retrieve verification key" are
    tried again, five times in all; a denial is not. `precheck=False` leaves every check of the
    token to AWS. Raises IdentityError; docs/errors.md has a section for each id.
    """
    if not token:
        raise IdentityError(
            "oidc-no-token",
            "this job has no ID token",
            hint="GitLab: name the variable under `id_tokens:` of the job. GitHub: the job needs `permissions: id-token: "
            "write`. A pull request from a fork gets no token.",
            where=session.role_arn,
        )
    redactor.register(token)
    redactor.register(token.rpartition(".")[2])
    check(session, region=endpoint.region)
    decoded = jwt.decode(token) if precheck else _decoded(token)
    if precheck and decoded:
        jwt.check(decoded, audience=audience, now=now())
    for attempt in range(1, ATTEMPTS + 1):
        try:
            given = assume_role_with_web_identity(endpoint, role_session(session), token=token)
        except (AwsError, AwsUnreachable) as error:
            if attempt < ATTEMPTS and _transient(error):
                sleep(_FIRST_WAIT * 2 ** (attempt - 1))
                continue
            if isinstance(error, AwsUnreachable):
                raise IdentityError(
                    "oidc-sts-unreachable",
                    f"STS in {endpoint.region} did not answer in {attempt} attempts: {error.message}",
                    hint="Check the region, and that this runner reaches it.",
                ) from None
            policy = _policy(read_policy) if error.code == "AccessDenied" else None
            raise refusals.explained(
                error, decoded, session.role_arn, session.name, policy
            ) from None
        return taken(given, session, redactor)
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def role_session(session: SessionRequest) -> RoleSession:
    """The session as STS is asked for it."""
    return RoleSession(
        role_arn=session.role_arn,
        session_name=session.name,
        duration=session.duration,
        policy=session.policy,
        policy_arns=session.policy_arns,
    )


def taken(given: Assumed, session: SessionRequest, redactor: Redactor) -> Credentials:
    """The credentials of an answer, registered. Raises IdentityError where they are of another
    account than asked for.
    """
    redactor.register(given.credentials.secret_access_key)
    redactor.register(given.credentials.session_token or "")
    account = given.arn.split(":")[4] if given.arn.count(":") >= 5 else ""
    if account != session.account_id:
        raise IdentityError(
            "identity-wrong-account",
            f"STS gave credentials of account {account or 'unknown'}, and {session.account_id} was asked for",
            hint="Look at what answers in place of AWS: AWS_ENDPOINT_URL, a proxy.",
            where=session.role_arn,
        )
    return given.credentials


def _transient(error: CipipeError) -> bool:
    if not isinstance(error, AwsError):
        return True
    fetching_keys = error.code == "InvalidIdentityToken" and refusals.KEYS_NOT_FETCHED in error.text
    return (
        error.code in _TRANSIENT
        or fetching_keys
        or error.status == 429
        or (error.status or 0) >= 500
    )


def _decoded(token: str) -> jwt.TokenClaims | None:
    try:
        return jwt.decode(token)
    except IdentityError:
        return None


def _policy(read_policy: ReadPolicy | None) -> Mapping[str, Any] | None:
    try:
        return read_policy() if read_policy else None
    except CipipeError:
        return None
