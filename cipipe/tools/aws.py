"""The one door to AWS: sessions with given credentials.

Objects in S3 and sessions of STS, which every command needs, are asked for by requests of our own (s3.py and sts.py
beside this): making a client of boto3 takes longer than the rest of a short command. All else is called by boto3's
names, and boto3 is imported for it. Errors of AWS come out as `AwsError`, with AWS's own code.
"""

import contextlib
import random
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from cipipe.errors import StageError, UsageError
from cipipe.model import partition_of
from cipipe.tools.connections import Answer, Connections, Unanswered, no_certificates
from cipipe.tools.sigv4 import path_of, query_of, signed

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cipipe.tools.s3 import Bucket, Version

ATTEMPTS = 4
"""How often a request is made that AWS, or the network, fails to answer."""

_PASSING = {
    "BandwidthLimitExceeded",
    "InternalError",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_SUFFIX = {"aws": "amazonaws.com", "aws-cn": "amazonaws.com.cn", "aws-us-gov": "amazonaws.com"}


class AwsError(StageError):
    """AWS refused a call. `code` is AWS's own (`AccessDenied`, `NoSuchKey`, …), `status` the HTTP status.

    `region` is where S3 says that the bucket is.
    """

    region: str | None = None

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
    """Where AWS is: a region, and a URL where it is not AWS's own (the sandbox), for one service or for all others.

    `ca_bundle` is a file with the certificates to trust. Raises UsageError where a URL is none.
    """

    region: str
    url: str | None = None
    ca_bundle: str | None = None
    sts_url: str | None = None
    s3_url: str | None = None
    fips: bool = False
    dualstack: bool = False

    def __post_init__(self) -> None:
        names = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_STS": self.sts_url,
            "AWS_ENDPOINT_URL_S3": self.s3_url,
        }
        for name, url in names.items():
            if url is not None and not _is_url(url):
                raise UsageError(
                    "usage", f"{url!r} is not a URL", hint="It looks like https://HOST or http://HOST:PORT.", where=name
                )

    def own_url(self, service: str) -> str | None:
        """The URL of a service that is not AWS's own."""
        return {"sts": self.sts_url, "s3": self.s3_url}.get(service) or self.url

    def url_of(self, service: str, region: str | None = None) -> str:
        """The URL of S3 or STS in the region (or another one), in the region's partition.

        https://docs.aws.amazon.com/general/latest/gr/sts.html, …/s3.html
        """
        own = self.own_url(service)
        if own is not None:
            return own.rstrip("/")
        region = region or self.region
        partition = partition_of(region)
        # GovCloud's STS is FIPS 140 validated under its usual name; S3 alone has a name with IPv6 of this form.
        name = f"{service}-fips" if self.fips and (service, partition) != ("sts", "aws-us-gov") else service
        stack = ".dualstack" if self.dualstack and service == "s3" else ""
        return f"https://{name}{stack}.{region}.{_SUFFIX[partition]}"


def _is_url(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is no number
        return False


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
        self._connections: dict[str, Connections] = {}
        self.begun: dict[tuple[str, str], Future[list[Version]]] = {}  # listings, by bucket and prefix

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
        from cipipe.tools.sts import caller

        return caller(self)

    def send(
        self,
        operation: str,
        method: str,
        url: str,
        path: str = "/",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        region: str | None = None,
    ) -> Answer:
        """One signed request; `operation` is `SERVICE:Name`. `path`, not encoded yet, comes after `url`'s own.

        What may pass (no answer, throttling, an error of the server) is tried again, `ATTEMPTS` times in all, and so is a
        write whose answer was lost. Raises AwsError, AwsUnreachable.
        """
        place = urllib.parse.urlsplit(url)
        target = place.path + path_of(path) + (f"?{query_of(query)}" if query else "")
        given = {**(headers or {}), "host": place.netloc, "user-agent": "cipipe"}
        connections = self._connected(f"{place.scheme}://{place.netloc}")
        for attempt in range(1, ATTEMPTS + 1):
            proved = signed(
                method,
                target,
                given,
                body,
                service=operation.partition(":")[0],
                region=region or self.endpoint.region,
                credentials=self.keys(),
                now=datetime.now(UTC),
            )
            try:
                answer = connections.send(method, target, proved, body)
            except Unanswered as silence:
                if attempt == ATTEMPTS:
                    raise AwsUnreachable(str(silence)) from None
            else:
                if answer.status < 300:
                    return answer
                error = refusal(operation, answer)
                if attempt == ATTEMPTS or not (answer.status >= 500 or answer.status == 429 or error.code in _PASSING):
                    raise error
            time.sleep(random.uniform(0, 2 ** (attempt - 1)))  # noqa: S311 - so that many do not come back at once
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    def keys(self) -> Credentials:
        """The credentials of now. Raises AwsUnreachable where boto3 finds none."""
        if isinstance(self.credentials, Credentials):
            return self.credentials
        if self.credentials is not None:
            return self.credentials()
        with translated("credentials"), self._making:
            found = self._boto().get_credentials()
            if found is None:
                raise AwsUnreachable("unable to locate credentials")
            frozen = found.get_frozen_credentials()  # renewed where they are temporary
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)

    def _connected(self, origin: str) -> Connections:
        with self._making:
            if origin not in self._connections:
                self._connections[origin] = Connections(origin, self.endpoint.ca_bundle)
            return self._connections[origin]

    def call(self, service: str, operation: str, /, **arguments: Any) -> Any:
        """Call one operation by boto3's name for it. Raises AwsError, AwsUnreachable."""
        with translated(service):
            return getattr(self.client(service), operation)(**arguments)

    def pages(self, service: str, operation: str, /, **arguments: Any) -> Iterator[Any]:
        """Every page of a listing operation. Raises AwsError, AwsUnreachable."""
        with translated(service):
            yield from self.client(service).get_paginator(operation).paginate(**arguments)

    def _make(self, service: str) -> Any:
        from botocore.config import Config

        bundle = self.endpoint.ca_bundle
        if bundle is not None and not Path(bundle).exists():
            raise no_certificates(bundle, "there is no such file")
        url = self.endpoint.own_url(service)
        config = Config(
            retries={"mode": "standard", "max_attempts": 4},
            connect_timeout=10,
            max_pool_connections=16,
            inject_host_prefix=url is None,  # there is no api.127.0.0.1
        )
        return self._boto().client(service, endpoint_url=url, config=config, verify=bundle)

    def _boto(self) -> Any:
        """boto3's session; making one, and using it, is not thread-safe."""
        import boto3

        if self._session is None:
            keys, region = self.credentials, self.endpoint.region
            if keys is None:
                self._session = boto3.Session(region_name=region)
            elif isinstance(keys, Credentials):
                given = (keys.access_key_id, keys.secret_access_key, keys.session_token)
                self._session = boto3.Session(*given, region_name=region)
            else:
                self._session = boto3.Session(region_name=region, botocore_session=_renewed(keys))
        return self._session


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


def refusal(operation: str, answer: Answer) -> AwsError:
    """The error in an answer; one without a body (of a HEAD request) has the status for its code."""
    found = texts(answer.body)
    code = found.get("Code") or str(answer.status)
    error = AwsError(operation, code, found.get("Message", f"HTTP status {answer.status}"), answer.status)
    error.region = answer.headers.get("x-amz-bucket-region")
    return error


def texts(body: bytes) -> dict[str, str]:
    """The text of each element of an XML document by its name; of equal names, the last. Empty where it is none."""
    root = document(body)
    return {} if root is None else {name_of(element): (element.text or "").strip() for element in root.iter()}


def document(body: bytes) -> ET.Element | None:
    """An XML document's root; None where it is none."""
    try:
        return ET.fromstring(body)  # noqa: S314 - AWS's own answer over TLS
    except (ET.ParseError, LookupError, ValueError):  # the latter two: an encoding that nobody knows, or of two bytes
        return None


def name_of(element: ET.Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]
