"""The one door to AWS: sessions with given credentials, calls by boto3's names, the STS exchange. S3 objects: `s3`.

boto3 is imported when the first client is made. Errors of AWS come out as `AwsError`, with AWS's own code.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cipipe.errors import StageError

if TYPE_CHECKING:
    from cipipe.tools.s3 import Bucket


class AwsError(StageError):
    """AWS refused a call. `code` is AWS's own (`AccessDenied`, `NoSuchKey`, …), `status` the HTTP status."""

    def __init__(self, operation: str, code: str, text: str, status: int | None, *, where: str | None = None) -> None:
        super().__init__(
            "aws-refused",
            f"AWS refused {operation}: {code}: {text}",
            hint="The role that this job runs as may lack the permission, or the resource does not exist.",
            where=where,
        )
        self.operation = operation
        self.code = code
        self.status = status
        self.text = text


class AwsUnreachable(StageError):
    def __init__(self, detail: str) -> None:
        super().__init__("aws-unreachable", f"AWS does not answer: {detail}", hint="Check region, network and proxy.")


@dataclass(frozen=True)
class Credentials:
    """A set of AWS keys. Temporary ones have a token and say until when they hold (UTC)."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expiration: datetime | None = None

    def environment(self) -> dict[str, str]:
        """These keys as AWS's tools read them from their environment."""
        env = {"AWS_ACCESS_KEY_ID": self.access_key_id, "AWS_SECRET_ACCESS_KEY": self.secret_access_key}
        if self.session_token:
            env["AWS_SESSION_TOKEN"] = self.session_token
        return env


@dataclass(frozen=True)
class Endpoint:
    """Where AWS is: a region, and a URL where it is not AWS's own (the sandbox)."""

    region: str
    url: str | None = None


class Aws:
    """A session: one endpoint, one set of credentials. `credentials=None` uses what boto3 finds (a laptop's profile).

    With an `account`, a bucket that belongs to anybody else is refused: bucket names are global, and ours can be guessed.
    """

    def __init__(self, endpoint: Endpoint, credentials: Credentials | None, *, account: str | None = None) -> None:
        self.endpoint = endpoint
        self.credentials = credentials
        self.account = account
        self._making = threading.Lock()
        self._session: Any = None
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """A boto3 client; made once per service, because making one is slow."""
        with self._making:  # which is not thread-safe; using a client is
            if service not in self._clients:
                self._clients[service] = self._make(service)
            return self._clients[service]

    def bucket(self, name: str) -> "Bucket":
        from cipipe.tools.s3 import Bucket

        return Bucket(self, name)

    def account_id(self) -> str:
        """The account that the credentials belong to (sts:GetCallerIdentity)."""
        return str(self.call("sts", "get_caller_identity")["Account"])

    def call(self, service: str, operation: str, /, **arguments: Any) -> Any:
        """Call one operation by boto3's name for it. Raises AwsError, AwsUnreachable."""
        with translated(service):
            return getattr(self.client(service), operation)(**arguments)

    def pages(self, service: str, operation: str, /, **arguments: Any) -> Iterator[Any]:
        """Every page of a listing operation. Raises AwsError, AwsUnreachable."""
        with translated(service):
            yield from self.client(service).get_paginator(operation).paginate(**arguments)

    def _make(self, service: str) -> Any:
        import boto3
        from botocore.config import Config

        if self._session is None:
            keys = self.credentials
            self._session = boto3.Session(
                region_name=self.endpoint.region,
                aws_access_key_id=keys.access_key_id if keys else None,
                aws_secret_access_key=keys.secret_access_key if keys else None,
                aws_session_token=keys.session_token if keys else None,
            )
        config = Config(
            retries={"mode": "standard", "max_attempts": 4},
            connect_timeout=10,
            max_pool_connections=16,
            inject_host_prefix=self.endpoint.url is None,  # there is no api.127.0.0.1
        )
        return self._session.client(service, endpoint_url=self.endpoint.url, config=config)


@contextlib.contextmanager
def translated(service: str) -> Iterator[None]:
    """boto3's errors as ours."""
    import botocore.exceptions

    try:
        yield
    except botocore.exceptions.ClientError as error:
        detail = error.response.get("Error", {})
        raise AwsError(
            f"{service}:{error.operation_name}",
            detail.get("Code", "Unknown"),
            detail.get("Message", str(error)),
            error.response.get("ResponseMetadata", {}).get("HTTPStatusCode"),
        ) from error
    except botocore.exceptions.BotoCoreError as error:
        raise AwsUnreachable(str(error)) from error


@dataclass(frozen=True)
class WebIdentity:
    """What STS gave for a token, and whom it took the token's bearer for."""

    credentials: Credentials
    role_arn: str
    subject: str
    audience: str
    provider: str


def assume_role_with_web_identity(
    endpoint: Endpoint, *, role_arn: str, session_name: str, token: str, duration: int
) -> WebIdentity:
    """Exchange a token for credentials at the region's own STS endpoint; one unsigned call, no retries.

    Raises AwsError with STS's code (`AccessDenied`, `InvalidIdentityToken`, `ExpiredTokenException`, …), AwsUnreachable.
    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
    """
    import botocore.exceptions

    client = _unsigned_sts(endpoint)
    try:
        answer = client.assume_role_with_web_identity(
            RoleArn=role_arn, RoleSessionName=session_name, WebIdentityToken=token, DurationSeconds=duration
        )
    except botocore.exceptions.ClientError as error:
        detail = error.response.get("Error", {})
        raise AwsError(
            "sts:AssumeRoleWithWebIdentity",
            detail.get("Code", "Unknown"),
            detail.get("Message", ""),
            error.response.get("ResponseMetadata", {}).get("HTTPStatusCode"),
        ) from None  # the error's own traceback holds the request, and with it the token
    except botocore.exceptions.BotoCoreError as error:
        raise AwsUnreachable(f"sts: {type(error).__name__}") from None
    keys = answer["Credentials"]
    return WebIdentity(
        Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], keys["Expiration"]),
        answer.get("AssumedRoleUser", {}).get("Arn", ""),
        answer.get("SubjectFromWebIdentityToken", ""),
        answer.get("Audience", ""),
        answer.get("Provider", ""),
    )


def _unsigned_sts(endpoint: Endpoint) -> Any:
    import boto3
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config

    core = botocore.session.Session()
    core.set_config_variable("sts_regional_endpoints", "regional")
    config = Config(
        signature_version=UNSIGNED,
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=10,
        read_timeout=30,
    )
    # Given keys, unused in an unsigned call, keep boto3 from looking for others (files, instance metadata).
    session = boto3.Session("unsigned", "unsigned", region_name=endpoint.region, botocore_session=core)
    return session.client("sts", endpoint_url=endpoint.url, config=config)
