"""From a token to credentials: everything is checked that can be before AWS is asked, and every refusal explains itself.

The token and the keys it gets are registered with the redactor the moment they are seen here.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from cipipe.errors import CipipeError, IdentityError
from cipipe.oidc import claims as jwt
from cipipe.oidc import refusals
from cipipe.oidc.request import ROLE_ARN
from cipipe.redact import Redactor
from cipipe.tools.aws import AwsError, AwsUnreachable, Credentials, Endpoint, assume_role_with_web_identity

SHORTEST, LONGEST = 900, 43200
"""Seconds that a session may last, whatever the role allows (AssumeRoleWithWebIdentity, `DurationSeconds`)."""

ATTEMPTS = 5
_FIRST_WAIT = 0.5
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_TRANSIENT = {"Throttling", "ThrottlingException", "RequestLimitExceeded", "IDPCommunicationError", "RequestTimeout"}

ReadPolicy = Callable[[], Mapping[str, Any] | None]
"""Gives the role's trust policy, or None where it may not be read. An error in it is not an error of the exchange."""


def exchange(
    token: str | None,
    *,
    role_arn: str,
    account_id: str,
    session_name: str,
    duration: int,
    endpoint: Endpoint,
    audience: str,
    redactor: Redactor,
    read_policy: ReadPolicy | None = None,
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
    precheck: bool = True,
) -> Credentials:
    """Exchange an ID token for temporary credentials of a role (sts:AssumeRoleWithWebIdentity).

    Throttling, 5xx, no answer, IDPCommunicationError and "Couldn't retrieve verification key" are tried again, five
    times in all; a denial is not. `precheck=False` leaves every check of the token to AWS.
    Raises IdentityError; docs/errors.md has a section for each id.
    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
    """
    if not token:
        raise IdentityError(
            "oidc-no-token",
            "this job has no ID token",
            hint="GitLab: name the variable under `id_tokens:` of the job. GitHub: the job needs `permissions: id-token: "
            "write`. A pull request from a fork gets no token.",
        )
    redactor.register(token)
    redactor.register(token.rpartition(".")[2])
    _check_request(role_arn, account_id, session_name, duration)
    decoded = jwt.decode(token) if precheck else _decoded(token)
    if precheck and decoded:
        jwt.check(decoded, audience=audience, now=now())
    for attempt in range(1, ATTEMPTS + 1):
        try:
            given = assume_role_with_web_identity(
                endpoint, role_arn=role_arn, session_name=session_name, token=token, duration=duration
            ).credentials
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
            raise refusals.explained(error, decoded, role_arn, session_name, policy) from None
        redactor.register(given.secret_access_key)
        redactor.register(given.session_token or "")
        return given
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def session_name(*parts: str) -> str:
    """A session name made of these parts: joined with `-`, other characters replaced, cut to 64, at least two.

    The last part is kept whole as far as it fits: it is what tells one session from the next.
    """
    *head, last = [re.sub(r"[^\w+=,.@-]+", "-", part, flags=re.ASCII).strip("-") for part in parts if part] or [""]
    last = last[:64]
    front = "-".join(part for part in head if part)[: max(0, 63 - len(last))].strip("-")
    name = "-".join(part for part in (front, last) if part)
    return name if len(name) >= 2 else f"cipipe-{name}".strip("-")


def _check_request(role_arn: str, account_id: str, session: str, duration: int) -> None:
    match = ROLE_ARN.fullmatch(role_arn)
    if not role_arn:
        raise IdentityError(
            "oidc-role-missing", "no role is set for this environment", hint="Set `role_arn` in cipipe.toml."
        )
    if match is None:
        raise IdentityError(
            "oidc-role-malformed",
            f"{role_arn!r} is not the ARN of a role",
            hint="It looks like arn:aws:iam::111111111111:role/NAME.",
        )
    if match[2] != account_id:
        raise IdentityError(
            "oidc-role-of-another-account",
            f"the role is of account {match[2]}, the environment is account {account_id}",
            hint="Make `role_arn` and `account_id` of the environment agree.",
            where=role_arn,
        )
    if not _SESSION_NAME.fullmatch(session):
        raise IdentityError(
            "oidc-session-name",
            f"{session!r} is not a session name: 2 to 64 letters, digits and any of _+=,.@-",
            hint="Leave it out to have one made, or change it.",
        )
    if not SHORTEST <= duration <= LONGEST:
        raise IdentityError(
            "oidc-duration",
            f"a session of {duration} s is not possible: {SHORTEST} to {LONGEST} s are, and no more than the role allows",
            hint="3600 is what every role allows.",
        )


def _transient(error: CipipeError) -> bool:
    if not isinstance(error, AwsError):
        return True
    fetching_keys = error.code == "InvalidIdentityToken" and refusals.KEYS_NOT_FETCHED in error.text
    return error.code in _TRANSIENT or fetching_keys or (error.status or 0) >= 500


def _decoded(token: str) -> jwt.Claims | None:
    try:
        return jwt.decode(token)
    except IdentityError:
        return None


def _policy(read_policy: ReadPolicy | None) -> Mapping[str, Any] | None:
    try:
        return read_policy() if read_policy else None
    except CipipeError:
        return None
