"""STS, AWS's token exchange: AssumeRoleWithWebIdentity, which nobody signs, AssumeRole for chains,
GetCallerIdentity.

Requests of our own, as s3.py's are: tools ask for credentials often.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import urlencode, urlsplit

import msgspec

from cipipe.tools.aws.clients import Aws, AwsError, AwsUnreachable, Credentials, Endpoint
from cipipe.tools.aws.connections import Answer, Connections, Unanswered
from cipipe.tools.aws.signed import texts

_VERSION = "2011-06-15"
_FORM = {"content-type": "application/x-www-form-urlencoded"}
_LARGEST = 1 << 20


class Assumed(msgspec.Struct, frozen=True):
    """What STS gave: `arn` is the assumed role's, with account and session name; the rest is whom
    it saw in the token.
    """

    credentials: Credentials
    arn: str
    subject: str = ""
    audience: str = ""
    provider: str = ""


def assume_role_with_web_identity(
    endpoint: Endpoint,
    *,
    role_arn: str,
    session_name: str,
    token: str,
    duration: int,
    policy: str = "",
    policy_arns: Sequence[str] = (),
) -> Assumed:
    """Exchange a token for credentials: one call, no retries.

    Raises AwsError with STS's code (`AccessDenied`, `InvalidIdentityToken`,
    `ExpiredTokenException`, …), AwsUnreachable.
    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
    """
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": _VERSION,
        "WebIdentityToken": token,
        **_session(role_arn, session_name, duration, policy, policy_arns),
    }
    url = urlsplit(endpoint.url_of("sts"))
    connections = Connections(f"{url.scheme}://{url.netloc}", endpoint.ca_bundle)
    try:
        headers = {**_FORM, "user-agent": "cipipe"}
        answer = connections.send(
            "POST", f"{url.path}/", headers, urlencode(form).encode(), most=_LARGEST
        )
    except Unanswered as error:
        raise AwsUnreachable(str(error)) from None
    finally:
        connections.close()
    if answer.status != 200:
        found = texts(answer.body)
        code, text = found.get("Code", f"HTTP {answer.status}"), found.get("Message", "")
        raise AwsError("sts:AssumeRoleWithWebIdentity", code, text, answer.status)
    return _assumed(answer)


def assume_role(
    aws: Aws,
    *,
    role_arn: str,
    session_name: str,
    duration: int,
    policy: str = "",
    policy_arns: Sequence[str] = (),
) -> Assumed:
    """Assume a role with the credentials of another. Raises AwsError, AwsUnreachable.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    """
    return _assumed(
        _asked(aws, "AssumeRole", _session(role_arn, session_name, duration, policy, policy_arns))
    )


def caller(aws: Aws) -> str:
    """The account that the credentials belong to. Raises AwsError, AwsUnreachable.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
    """
    found = texts(_asked(aws, "GetCallerIdentity", {}).body)
    if "Account" not in found:
        raise _stranger()
    return found["Account"]


def _asked(aws: Aws, action: str, form: Mapping[str, str]) -> Answer:
    body = urlencode({"Action": action, "Version": _VERSION, **form}).encode()
    return aws.signed.send(
        f"sts:{action}", "POST", aws.endpoint.url_of("sts"), headers=_FORM, body=body
    )


def _session(
    role: str, name: str, duration: int, policy: str, policy_arns: Sequence[str]
) -> dict[str, str]:
    return {
        "RoleArn": role,
        "RoleSessionName": name,
        "DurationSeconds": str(duration),
        **({"Policy": policy} if policy else {}),
        **{f"PolicyArns.member.{number}.arn": arn for number, arn in enumerate(policy_arns, 1)},
    }


def _assumed(answer: Answer) -> Assumed:
    found = texts(answer.body)
    try:
        credentials = Credentials(
            found["AccessKeyId"],
            found["SecretAccessKey"],
            found["SessionToken"],
            _moment(found["Expiration"]),
        )
    except (KeyError, ValueError):
        raise _stranger() from None
    return Assumed(
        credentials,
        found.get("Arn", ""),
        found.get("SubjectFromWebIdentityToken", ""),
        found.get("Audience", ""),
        found.get("Provider", ""),
    )


def _stranger() -> AwsUnreachable:
    return AwsUnreachable("what answered is not STS: a proxy?")


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(text)
    return found
