"""AWS with one set of credentials: S3, STS and ECR's login by requests of
our own, everything else by boto3.

boto3 is imported with the first call that needs it. Its errors become
AwsError and AwsUnreachable.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cipipe.interrupt import Interrupt
from cipipe.tools.aws import ecr, sts
from cipipe.tools.aws.certificates import no_certificates
from cipipe.tools.aws.credentials import Credentials, Source
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError, AwsUnreachable, NoCredentials
from cipipe.tools.aws.s3 import Bucket
from cipipe.tools.aws.signed import SignedClient


class Aws:
    """One endpoint with credentials: a fixed set, or a source that renews
    them.

    Without credentials, boto3 finds them (a laptop's profile). With an
    `account`, a bucket that belongs to another account is refused. An
    `interrupt` cuts waits for another attempt short.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials | Source | None,
        *,
        account: str | None = None,
        interrupt: Interrupt | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.credentials = credentials
        self.account = account
        self.signed = SignedClient(endpoint, self.keys, interrupt)
        self._interrupt = interrupt
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        self._buckets: dict[str, Bucket] = {}
        self._regions: dict[str, Aws] = {}

    def at(self, region: str) -> "Aws":
        """The same credentials in another region."""
        if region == self.endpoint.region:
            return self
        with self._lock:
            if region not in self._regions:
                endpoint = dataclasses.replace(self.endpoint, region=region)
                self._regions[region] = Aws(
                    endpoint,
                    self.credentials,
                    account=self.account,
                    interrupt=self._interrupt,
                )
            return self._regions[region]

    def client(self, service: str) -> Any:
        """A boto3 client. Kept, because making one is slow."""
        # Using a client is thread-safe; making one is not.
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make(service)
            return self._clients[service]

    def bucket(self, name: str) -> Bucket:
        """A bucket. Kept, because it remembers its region and the listings that it started."""
        with self._lock:
            if name not in self._buckets:
                self._buckets[name] = Bucket(self.signed, name, self.account)
            return self._buckets[name]

    def account_id(self) -> str:
        """The account that the credentials belong to (sts:GetCallerIdentity)."""
        return sts.account_of(self.signed)

    def keys(self) -> Credentials:
        """The current credentials. Raises NoCredentials when boto3 finds none."""
        if isinstance(self.credentials, Credentials):
            return self.credentials
        if self.credentials is not None:
            return self.credentials()

        with translated("credentials"), self._lock:
            found = self._boto().get_credentials()
            if found is None:
                raise NoCredentials
            # Temporary ones are renewed here.
            frozen = found.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)

    def registry_login(self) -> ecr.RegistryLogin:
        """A login at ECR (ecr:GetAuthorizationToken). Raises AwsError, AwsUnreachable."""
        return ecr.registry_login(self.signed)

    def call(self, service: str, operation: str, /, **arguments: Any) -> Any:
        """Call one operation, by boto3's name for it. Raises AwsError, AwsUnreachable."""
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
            # botocore would report this as an invalid path, without the
            # variable's name.
            raise no_certificates(bundle, "there is no such file")

        url = self.endpoint.own_url(service)
        config = Config(
            retries={"mode": "standard", "max_attempts": 4},
            connect_timeout=10,
            max_pool_connections=16,
            # Some services prepend a label to the host: there is no
            # api.127.0.0.1.
            inject_host_prefix=url is None,
        )
        return self._boto().client(service, endpoint_url=url, config=config, verify=bundle)

    def _boto(self) -> Any:
        """boto3's session. Called with the lock: neither making nor using one is thread-safe."""
        import boto3

        if self._session is not None:
            return self._session

        region = self.endpoint.region
        keys = self.credentials
        if keys is None:
            self._session = boto3.Session(region_name=region)
        elif isinstance(keys, Credentials):
            self._session = boto3.Session(
                aws_access_key_id=keys.access_key_id,
                aws_secret_access_key=keys.secret_access_key,
                aws_session_token=keys.session_token,
                region_name=region,
            )
        else:
            self._session = boto3.Session(region_name=region, botocore_session=_renewing(keys))
        return self._session


def _renewing(source: Source) -> Any:
    """A botocore session that gets its credentials from `source`, again before they expire."""
    import botocore.credentials
    import botocore.session

    def refresh() -> dict[str, Any]:
        keys = source()
        expires = keys.expiration.isoformat() if keys.expiration else None
        return {
            "access_key": keys.access_key_id,
            "secret_key": keys.secret_access_key,
            "token": keys.session_token,
            "expiry_time": expires,
        }

    class RenewedProvider(botocore.credentials.CredentialProvider):
        METHOD = "cipipe"

        def load(self) -> Any:
            return botocore.credentials.DeferredRefreshableCredentials(
                refresh_using=refresh, method=self.METHOD
            )

    session = botocore.session.Session()
    resolver = botocore.credentials.CredentialResolver([RenewedProvider()])
    session.register_component("credential_provider", resolver)
    return session


@contextlib.contextmanager
def translated(service: str) -> Iterator[None]:
    """Raise boto3's errors as ours."""
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
