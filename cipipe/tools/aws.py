"""The one door to AWS: sessions with given credentials, calls by boto3's names. S3 and STS are in s3.py and sts.py beside it.

boto3 is imported when the first client is made. Errors of AWS come out as `AwsError`, with AWS's own code.
"""

import contextlib
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cipipe.errors import StageError, UsageError

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


Source = Callable[[], Credentials]
"""Gives credentials that hold for a while yet, renewed where they would not."""


@dataclass(frozen=True)
class Endpoint:
    """Where AWS is: a region, and a URL where it is not AWS's own (the sandbox); `sts_url` where only STS is elsewhere.

    `ca_bundle` is a file with the certificates to trust. Raises UsageError where a URL is none.
    """

    region: str
    url: str | None = None
    ca_bundle: str | None = None
    sts_url: str | None = None

    def __post_init__(self) -> None:
        for name, url in (("AWS_ENDPOINT_URL", self.url), ("AWS_ENDPOINT_URL_STS", self.sts_url)):
            if url is not None and not _is_url(url):
                raise UsageError(
                    "usage", f"{url!r} is not a URL", hint="It looks like https://HOST or http://HOST:PORT.", where=name
                )


def _is_url(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is no number
        return False


def no_certificates(path: str, why: str) -> UsageError:
    return UsageError(
        "usage",
        f"the certificates to trust cannot be read from {path}: {why}",
        hint="AWS_CA_BUNDLE names a file of certificates in PEM form.",
        where="AWS_CA_BUNDLE",
    )


class Aws:
    """A session: one endpoint, and credentials: one set, or a source that is asked again before they expire.

    `credentials=None` uses what boto3 finds (a laptop's profile). With an `account`, a bucket that belongs to anybody
    else is refused: bucket names are global, and ours can be guessed.
    """

    def __init__(
        self, endpoint: Endpoint, credentials: Credentials | Source | None, *, account: str | None = None
    ) -> None:
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

        bundle = self.endpoint.ca_bundle
        if bundle is not None and not Path(bundle).exists():
            raise no_certificates(bundle, "there is no such file")
        if self._session is None:
            keys, region = self.credentials, self.endpoint.region
            if keys is None:
                self._session = boto3.Session(region_name=region)
            elif isinstance(keys, Credentials):
                given = (keys.access_key_id, keys.secret_access_key, keys.session_token)
                self._session = boto3.Session(*given, region_name=region)
            else:
                self._session = boto3.Session(region_name=region, botocore_session=_renewed(keys))
        url = (self.endpoint.sts_url if service == "sts" else None) or self.endpoint.url
        config = Config(
            retries={"mode": "standard", "max_attempts": 4},
            connect_timeout=10,
            max_pool_connections=16,
            inject_host_prefix=url is None,  # there is no api.127.0.0.1
        )
        return self._session.client(service, endpoint_url=url, config=config, verify=bundle)


def _renewed(source: Source) -> Any:
    """A botocore session whose credentials are asked of `source` again, ahead of their end, by botocore's own rules."""
    import botocore.credentials
    import botocore.session

    def asked() -> dict[str, Any]:
        keys = source()
        expires = keys.expiration.isoformat() if keys.expiration else None
        return {
            "access_key": keys.access_key_id,
            "secret_key": keys.secret_access_key,
            "token": keys.session_token,
            "expiry_time": expires,
        }

    class Provider(botocore.credentials.CredentialProvider):
        METHOD = "cipipe"

        def load(self) -> Any:
            return botocore.credentials.DeferredRefreshableCredentials(refresh_using=asked, method=self.METHOD)

    core = botocore.session.Session()
    core.register_component("credential_provider", botocore.credentials.CredentialResolver([Provider()]))
    return core


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
