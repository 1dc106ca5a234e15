"""STS: tokens and sessions for credentials, and the account that
credentials belong to.

AssumeRoleWithWebIdentity is not signed and not repeated here: what to
repeat depends on STS's code, which `oidc.exchange` knows. The other two go
through the signed client.
"""

import contextlib
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlencode, urlsplit

import msgspec

from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError, AwsUnreachable
from cipipe.tools.aws.messages import AwsAnswer, AwsRequest, Unanswered, texts
from cipipe.tools.aws.signed import AwsCall, SignedClient

_VERSION = "2011-06-15"
_FORM = {"content-type": "application/x-www-form-urlencoded"}

# Bytes of an answer that are read. Whatever answers in place of STS could
# send without end.
_LIMIT = 1 << 20


class RoleSession(msgspec.Struct, frozen=True, kw_only=True):
    """The session to request from STS."""

    role_arn: str
    session_name: str
    # Seconds.
    duration: int
    # A session policy as JSON, which narrows what the role may do; empty:
    # none.
    policy: str = ""
    # The same as ARNs of managed policies.
    policy_arns: tuple[str, ...] = ()

    def form(self) -> dict[str, str]:
        """The session as parameters of STS's query protocol."""
        form = {
            "RoleArn": self.role_arn,
            "RoleSessionName": self.session_name,
            "DurationSeconds": str(self.duration),
        }
        if self.policy:
            form["Policy"] = self.policy
        for number, arn in enumerate(self.policy_arns, 1):
            form[f"PolicyArns.member.{number}.arn"] = arn
        return form


class Assumed(msgspec.Struct, frozen=True, kw_only=True):
    """The session that STS returned."""

    credentials: Credentials
    # The assumed role's, with account and session name.
    arn: str
    # What STS read in the ID token; empty for AssumeRole.
    subject: str = ""
    audience: str = ""
    provider: str = ""


def assume_role_with_web_identity(
    endpoint: Endpoint, session: RoleSession, *, token: str
) -> Assumed:
    """Exchange an ID token for credentials: one request, no retries.

    Raises AwsError with STS's code (`AccessDenied`, `InvalidIdentityToken`,
    `ExpiredTokenException`, …), AwsUnreachable.
    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
    """
    from cipipe.tools.aws.transport import Transport

    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": _VERSION,
        "WebIdentityToken": token,
        **session.form(),
    }
    url = urlsplit(endpoint.url_of("sts"))
    request = AwsRequest(
        method="POST",
        origin=f"{url.scheme}://{url.netloc}",
        target=f"{url.path}/",
        headers={**_FORM, "user-agent": "cipipe"},
        body=urlencode(form).encode(),
    )

    with contextlib.closing(Transport(endpoint.ca_bundle)) as transport:
        try:
            answer = transport.send(request, limit=_LIMIT)
        except Unanswered as error:
            raise AwsUnreachable(str(error)) from None

    if answer.status != 200:
        found = texts(answer.body)
        raise AwsError(
            "sts:AssumeRoleWithWebIdentity",
            found.get("Code", f"HTTP {answer.status}"),
            found.get("Message", ""),
            answer.status,
        )
    return _assumed(answer)


def assume_role(client: SignedClient, session: RoleSession) -> Assumed:
    """Assume a role with the credentials of another. Raises AwsError,
    AwsUnreachable.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    """
    return _assumed(_send(client, "AssumeRole", session.form()))


def account_of(client: SignedClient) -> str:
    """The account that the client's credentials belong to. Raises AwsError,
    AwsUnreachable.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
    """
    found = texts(_send(client, "GetCallerIdentity", {}).body)
    if "Account" not in found:
        raise _not_sts()
    return found["Account"]


def _send(client: SignedClient, action: str, form: Mapping[str, str]) -> AwsAnswer:
    body = urlencode({"Action": action, "Version": _VERSION, **form}).encode()
    return client.send(
        AwsCall(
            operation=f"sts:{action}",
            method="POST",
            url=client.endpoint.url_of("sts"),
            headers=_FORM,
            body=body,
        )
    )


def _assumed(answer: AwsAnswer) -> Assumed:
    found = texts(answer.body)
    try:
        credentials = Credentials(
            access_key_id=found["AccessKeyId"],
            secret_access_key=found["SecretAccessKey"],
            session_token=found["SessionToken"],
            expiration=_moment(found["Expiration"]),
        )
    except (KeyError, ValueError):
        raise _not_sts() from None
    return Assumed(
        credentials=credentials,
        arn=found.get("Arn", ""),
        subject=found.get("SubjectFromWebIdentityToken", ""),
        audience=found.get("Audience", ""),
        provider=found.get("Provider", ""),
    )


def _not_sts() -> AwsUnreachable:
    return AwsUnreachable("what answered is not STS: a proxy?")


def _moment(text: str) -> datetime:
    """A point in time. Raises ValueError for one without a time zone: it could be hours off."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(text)
    return found
