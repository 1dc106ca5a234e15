"""ECR: the login at a registry. Everything else of ECR goes through boto3.

https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html
"""

import base64

import msgspec

from cipipe import bounded
from cipipe.tools.aws.errors import AwsUnreachable
from cipipe.tools.aws.signed import AwsCall, SignedClient

_TARGET = "AmazonEC2ContainerRegistry_V20150921"


class _Authorization(msgspec.Struct, frozen=True, rename="camel"):
    authorization_token: str
    proxy_endpoint: str


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    authorization_data: list[_Authorization]


class RegistryLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A login that is good for every registry that the credentials may use, for twelve hours."""

    username: str
    password: str
    # User name and password as an Authorization header has them.
    basic: str
    # The registry of the credentials' own account, with its scheme.
    url: str

    def __repr__(self) -> str:
        return f"RegistryLogin({self.url})"


def registry_login(client: SignedClient) -> RegistryLogin:
    """Log in. Raises AwsError, AwsUnreachable."""
    answer = client.send(
        AwsCall(
            operation="ecr:GetAuthorizationToken",
            method="POST",
            url=client.endpoint.url_of("ecr"),
            headers={
                "content-type": "application/x-amz-json-1.1",
                "x-amz-target": f"{_TARGET}.GetAuthorizationToken",
            },
            body=b"{}",
        )
    )
    try:
        (found,) = bounded.decode(answer.body, type=_Answer).authorization_data
        login = base64.b64decode(found.authorization_token, validate=True).decode()
    except ValueError:
        # Not JSON, not its form, not base64, not text.
        raise AwsUnreachable("what answered is not ECR: a proxy?") from None
    username, colon, password = login.partition(":")
    if not colon or "://" not in found.proxy_endpoint:
        raise AwsUnreachable("what answered is not ECR: a proxy?")
    return RegistryLogin(
        username=username,
        password=password,
        basic=found.authorization_token,
        url=found.proxy_endpoint,
    )
