"""From a token to credentials. What can be checked is checked before AWS is
called, and a refusal explains itself.

The token, and the keys that it buys, are registered with the redactor as
soon as they are known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cipipe.errors import CipipeError, IdentityError
from cipipe.oidc import claims as jwt
from cipipe.oidc import refusals
from cipipe.oidc.no_token import no_token
from cipipe.oidc.session import SessionRequest, check
from cipipe.redact import Redactor
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError, AwsUnreachable
from cipipe.tools.aws.sts import Assumed, RoleSession, assume_role_with_web_identity

ATTEMPTS = 5

# Seconds before the second attempt; it doubles with each further one.
_FIRST_WAIT = 0.5

_TRANSIENT = {
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "IDPCommunicationError",
    "RequestTimeout",
}

# Returns a role's trust policy, or None if it may not be read. An error of
# it is not an error of the exchange.
ReadPolicy = Callable[[], Mapping[str, Any] | None]


@dataclass(frozen=True, kw_only=True)
class ExchangeOptions:
    """How tokens are exchanged, and what the exchange may use for it."""

    endpoint: Endpoint

    # The audience that the token has to have.
    audience: str
    redactor: Redactor

    # The clock, and how to wait between attempts.
    now: Callable[[], datetime]
    sleep: Callable[[float], None]

    # For the explanation of a denial; None if the policy cannot be known.
    read_policy: ReadPolicy | None = None

    # False leaves every check of the token to AWS.
    precheck: bool = True

    # STS; a parameter for tests.
    assume: Callable[..., Assumed] = assume_role_with_web_identity


def exchange(token: str | None, session: SessionRequest, options: ExchangeOptions) -> Credentials:
    """Exchange an ID token for temporary credentials of a role
    (sts:AssumeRoleWithWebIdentity).

    Throttling, 5xx, no answer, IDPCommunicationError and "Couldn't retrieve
    verification key" are retried, five attempts in all; a denial is not.
    Raises IdentityError; docs/errors.md has a section for each id.
    """
    if not token:
        raise no_token(
            "this job has no ID token",
            hint="GitLab: name the variable under `id_tokens:` of the job. GitHub: the job needs "
            "`permissions: id-token: write`. A pull request from a fork gets no token.",
            where=session.role_arn,
        )

    # The signature alone is enough to use the token of a known job, so it
    # is a secret of its own.
    options.redactor.register(token)
    options.redactor.register(token.rpartition(".")[2])

    check(session, region=options.endpoint.region)
    decoded = jwt.decode(token) if options.precheck else _decoded(token)
    if options.precheck and decoded:
        jwt.check(decoded, audience=options.audience, now=options.now())

    try:
        assumed = _assume(token, session, options)
    except AwsError as error:
        policy = _policy(options.read_policy) if error.code == "AccessDenied" else None
        raise refusals.explained(error, claims=decoded, session=session, policy=policy) from None
    return checked(assumed, session, options.redactor)


def role_session(session: SessionRequest) -> RoleSession:
    """The session as STS's parameters name its parts."""
    return RoleSession(
        role_arn=session.role_arn,
        session_name=session.name,
        duration=session.duration,
        policy=session.policy,
        policy_arns=session.policy_arns,
    )


def checked(assumed: Assumed, session: SessionRequest, redactor: Redactor) -> Credentials:
    """The credentials of an answer, registered with the redactor.

    Raises IdentityError if they belong to another account than the
    requested one.
    """
    redactor.register(assumed.credentials.secret_access_key)
    redactor.register(assumed.credentials.session_token or "")

    account = assumed.arn.split(":")[4] if assumed.arn.count(":") >= 5 else ""
    if account != session.account_id:
        raise IdentityError(
            "identity-wrong-account",
            f"STS issued credentials of account {account or 'unknown'}; "
            f"{session.account_id} was requested",
            hint="Check what answers instead of AWS: AWS_ENDPOINT_URL, a proxy.",
            where=session.role_arn,
        )
    return assumed.credentials


def _assume(token: str, session: SessionRequest, options: ExchangeOptions) -> Assumed:
    """Call STS, with retries. Raises AwsError for a refusal, IdentityError if it is unreachable."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return options.assume(options.endpoint, role_session(session), token=token)
        except (AwsError, AwsUnreachable) as error:
            if attempt < ATTEMPTS and _transient(error):
                options.sleep(_FIRST_WAIT * 2 ** (attempt - 1))
                continue
            if isinstance(error, AwsError):
                raise
            raise unreachable(error, options.endpoint, attempts=attempt) from None
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def unreachable(error: AwsUnreachable, endpoint: Endpoint, *, attempts: int = 1) -> IdentityError:
    """The error for an STS that does not answer."""
    tried = f" in {attempts} attempts" if attempts > 1 else ""
    return IdentityError(
        "oidc-sts-unreachable",
        f"STS in {endpoint.region} did not answer{tried}: {error.message}",
        hint="Check the region, and that this runner can reach it.",
    )


def _transient(error: CipipeError) -> bool:
    if not isinstance(error, AwsError):
        return True
    fetching_keys = error.code == "InvalidIdentityToken" and refusals.KEYS_NOT_FETCHED in error.text
    busy = error.status == 429 or (error.status or 0) >= 500
    return error.code in _TRANSIENT or fetching_keys or busy


def _decoded(token: str) -> jwt.TokenClaims | None:
    """The claims if they can be read: without the precheck AWS decides what is a token."""
    try:
        return jwt.decode(token)
    except IdentityError:
        return None


def _policy(read_policy: ReadPolicy | None) -> Mapping[str, Any] | None:
    try:
        return read_policy() if read_policy else None
    except CipipeError:
        return None
