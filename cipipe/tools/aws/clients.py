"""The one door to AWS: sessions with given credentials.

Objects in S3 and sessions of STS, which every command needs, are asked for by requests of our own
(`signed`, by s3.py and sts.py beside this): making a client of boto3 takes longer than the rest of
a short command. All else is called by boto3's names, and boto3 is imported for it. Errors of AWS
come out as `AwsError`, with AWS's own code.
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cipipe.tools.aws.connections import no_certificates
from cipipe.tools.aws.endpoint import AwsError, AwsUnreachable, Credentials, Endpoint, Source
from cipipe.tools.aws.signed import Signed

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cipipe.tools.aws.s3 import Bucket, Version

__all__ = ["Aws", "AwsError", "AwsUnreachable", "Credentials", "Endpoint", "Source", "translated"]


class Aws:
    """A session: one endpoint, and credentials: one set, or a source that is asked again before
    they expire.

    `credentials=None` uses what boto3 finds (a laptop's profile). With an `account`, a bucket that
    belongs to anybody else is refused: bucket names are global, and ours can be guessed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials | Source | None,
        *,
        account: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.credentials = credentials
        self.account = account
        self._making = threading.Lock()
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        self.signed = Signed(endpoint, self.keys)
        self.begun: dict[
            tuple[str, str], Future[list[Version]]
        ] = {}  # listings, by bucket and prefix

    def client(self, service: str) -> Any:
        """A boto3 client; made once per service, because making one is slow."""
        with self._making:  # which is not thread-safe; using a client is
            if service not in self._clients:
                self._clients[service] = self._make(service)
            return self._clients[service]

    def bucket(self, name: str) -> "Bucket":
        from cipipe.tools.aws.s3 import Bucket

        return Bucket(self, name)

    def account_id(self) -> str:
        """The account that the credentials belong to (sts:GetCallerIdentity)."""
        from cipipe.tools.aws.sts import caller

        return caller(self)

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
    """A botocore session whose credentials are asked of `source` again, ahead of their end, by
    botocore's own rules.
    """
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
            return botocore.credentials.DeferredRefreshableCredentials(
                refresh_using=asked, method=self.METHOD
            )

    core = botocore.session.Session()
    core.register_component(
        "credential_provider", botocore.credentials.CredentialResolver([Provider()])
    )
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
