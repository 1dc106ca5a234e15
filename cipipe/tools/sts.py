"""STS, AWS's token exchange: AssumeRoleWithWebIdentity as one unsigned HTTPS request, and AssumeRole for chains.

The exchange is made without boto3, whose import alone takes longer than the rest: tools ask for credentials often.
"""

import functools
import http.client
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from xml.etree import ElementTree as ET

from cipipe.model import partition_of
from cipipe.tools.aws import Aws, AwsError, AwsUnreachable, Credentials, Endpoint, no_certificates

TIMEOUT = 20.0
"""Seconds to connect, and seconds to wait for each piece of an answer."""

_SUFFIX = {"aws": "amazonaws.com", "aws-cn": "amazonaws.com.cn", "aws-us-gov": "amazonaws.com"}
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Assumed:
    """What STS gave: `arn` is the assumed role's, with account and session name; the rest is whom it saw in the token."""

    credentials: Credentials
    arn: str
    subject: str = ""
    audience: str = ""
    provider: str = ""


def url_of(endpoint: Endpoint) -> str:
    """The region's own STS endpoint, in the region's partition.

    https://docs.aws.amazon.com/general/latest/gr/sts.html
    """
    return endpoint.sts_url or endpoint.url or f"https://sts.{endpoint.region}.{_SUFFIX[partition_of(endpoint.region)]}"


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

    Raises AwsError with STS's code (`AccessDenied`, `InvalidIdentityToken`, `ExpiredTokenException`, …), AwsUnreachable.
    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
    """
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": role_arn,
        "RoleSessionName": session_name,
        "WebIdentityToken": token,
        "DurationSeconds": str(duration),
        **({"Policy": policy} if policy else {}),
        **{f"PolicyArns.member.{number}.arn": arn for number, arn in enumerate(policy_arns, 1)},
    }
    status, body = _post(url_of(endpoint), form, endpoint.ca_bundle)
    found = _texts(body)
    if status != 200:
        code, text = found.get("Code", f"HTTP {status}"), found.get("Message", "")
        raise AwsError("sts:AssumeRoleWithWebIdentity", code, text, status)
    try:
        credentials = Credentials(
            found["AccessKeyId"],
            found["SecretAccessKey"],
            found["SessionToken"],
            _moment(found["Expiration"]),
        )
    except (KeyError, ValueError):
        raise AwsUnreachable("what answered is not STS: a proxy?") from None
    return Assumed(
        credentials,
        found.get("Arn", ""),
        found.get("SubjectFromWebIdentityToken", ""),
        found.get("Audience", ""),
        found.get("Provider", ""),
    )


def assume_role(
    aws: Aws, *, role_arn: str, session_name: str, duration: int, policy: str = "", policy_arns: Sequence[str] = ()
) -> Assumed:
    """Assume a role with the credentials of another; signed, so it is boto3's. Raises AwsError, AwsUnreachable.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    """
    more: dict[str, Any] = {"Policy": policy} if policy else {}
    if policy_arns:
        more["PolicyArns"] = [{"arn": arn} for arn in policy_arns]
    answer = aws.call(
        "sts", "assume_role", RoleArn=role_arn, RoleSessionName=session_name, DurationSeconds=duration, **more
    )
    keys = answer["Credentials"]
    given = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], keys["Expiration"])
    return Assumed(given, answer["AssumedRoleUser"]["Arn"])


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(text)
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token goes nowhere but to where it was sent."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(url: str, form: Mapping[str, str], ca_bundle: str | None) -> tuple[int, bytes]:
    parts = urllib.parse.urlsplit(url)
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if parts.scheme == "https":
        handlers.append(urllib.request.HTTPSHandler(context=_trust(ca_bundle)))
    if parts.hostname in _LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(  # noqa: S310 - the endpoint's own URL: AWS's, or the sandbox's
        url.rstrip("/") + "/",
        urllib.parse.urlencode(form).encode(),
        {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "cipipe"},
    )
    try:
        try:
            answer = urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            answer = error  # a refusal is an answer too, and may break off like any other
        with answer:
            return answer.status, answer.read(_LARGEST)
    except urllib.error.URLError as error:
        raise AwsUnreachable(f"{parts.netloc}: {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise AwsUnreachable(f"{parts.netloc}: {type(error).__name__}") from None


@functools.cache
def _trust(ca_bundle: str | None) -> ssl.SSLContext:
    """The certificates to trust: the given ones, else the system's, else those that came with requests.

    Raises UsageError where the given ones cannot be read.
    """
    if ca_bundle is None:
        places = ssl.get_default_verify_paths()
        if not places.cafile and not (places.capath and any(os.scandir(places.capath))):
            import certifi

            ca_bundle = certifi.where()
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:  # no certificates in it are one as well
        raise no_certificates(ca_bundle or "", error.strerror or str(error)) from None


def _texts(body: bytes) -> dict[str, str]:
    """The text of each element by its name; the names in an answer of STS that count are there once."""
    try:
        root = ET.fromstring(body)  # noqa: S314 - AWS's own answer over TLS, of limited size
    except (ET.ParseError, LookupError, ValueError):  # the latter two: an encoding that nobody knows, or of two bytes
        return {}
    return {element.tag.rpartition("}")[2]: (element.text or "").strip() for element in root.iter()}
