"""Objects in S3: conditional writes, a SHA-256 with every write, versions.

Reading returns None for "no such object" only; every other refusal of AWS is an error.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

import base64
import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from urllib.parse import urlsplit

import msgspec

from cipipe.tools.aws import deletions, listings
from cipipe.tools.aws.errors import AwsError
from cipipe.tools.aws.listings import Version, not_s3
from cipipe.tools.aws.messages import AwsAnswer
from cipipe.tools.aws.signed import AwsCall, SignedClient

__all__ = ["Bucket", "Encryption", "Head", "StoredObject", "Version", "Written"]

# Bucket names that can be a label of a host name.
_HOST_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")

_OWNER_HEADER = "x-amz-meta-cipipe-owner"

_ENCRYPTION_HEADER = "x-amz-server-side-encryption"
_KEY_HEADER = "x-amz-server-side-encryption-aws-kms-key-id"


class StoredObject(msgspec.Struct, frozen=True):
    """An object as read."""

    body: bytes
    # Quoted, as `put` expects it for `if_match`.
    etag: str
    # None: the bucket is not versioned.
    version: str | None


class Head(msgspec.Struct, frozen=True):
    """What S3 keeps beside an object's bytes."""

    # Hex; S3 checked it when the object was written. None: written without
    # one.
    sha256: str | None
    version: str | None
    # What `put` was given as `owner`.
    owner: str | None = None


class Encryption(msgspec.Struct, frozen=True):
    """How S3 encrypts an object."""

    # `AES256`, or `aws:kms` with a key.
    algorithm: str = "AES256"
    key: str | None = None

    def headers(self) -> dict[str, str]:
        """The headers that request it."""
        key = {_KEY_HEADER: self.key} if self.key else {}
        return {_ENCRYPTION_HEADER: self.algorithm, **key}

    @classmethod
    def found_in(cls, headers: Mapping[str, str]) -> "Encryption | None":
        """What an answer says of it; None where it says nothing."""
        algorithm = headers.get(_ENCRYPTION_HEADER)
        return cls(algorithm, headers.get(_KEY_HEADER)) if algorithm else None


class Written(msgspec.Struct, frozen=True):
    """What S3 answered to a write."""

    etag: str
    version: str | None
    # None where S3 does not say.
    encryption: Encryption | None = None


class Bucket:
    """One S3 bucket. Safe to use from several threads.

    With an `account`, requests fail when the bucket belongs to another one:
    bucket names are global, and ours can be guessed.
    """

    def __init__(self, client: SignedClient, name: str, account: str | None = None) -> None:
        self.name = name
        self._client = client
        self._expected = {"x-amz-expected-bucket-owner": account} if account else {}
        # Where S3 said that the bucket is; None: in the endpoint's region,
        # as far as we know.
        self._region: str | None = None
        # Listings that `look_ahead` started, by prefix.
        self._started: dict[str, Future[list[Version]]] = {}

    def get(self, key: str, version: str | None = None) -> StoredObject | None:
        """The object, or one version of it; None when there is none.

        Raises AwsError for anything else, AccessDenied included.
        """
        try:
            answer = self._send("GetObject", "GET", key, query=_query_of(version))
        except AwsError as error:
            if error.code in {"NoSuchKey", "NoSuchVersion"}:
                return None
            raise
        return StoredObject(answer.body, _etag(answer), answer.headers.get("x-amz-version-id"))

    def head(self, key: str, version: str | None = None) -> Head | None:
        """What S3 keeps beside the object, or beside one version of it; None when there is none."""
        headers = {"x-amz-checksum-mode": "ENABLED"}
        try:
            answer = self._send(
                "HeadObject", "HEAD", key, query=_query_of(version), headers=headers
            )
        except AwsError as error:
            if error.status == 404:
                return None
            raise

        checksum = answer.headers.get("x-amz-checksum-sha256", "")
        # The checksum of a multipart upload ends with "-PARTS" and is not
        # that of the contents.
        sha256 = base64.b64decode(checksum).hex() if checksum and "-" not in checksum else None
        return Head(
            sha256, answer.headers.get("x-amz-version-id"), answer.headers.get(_OWNER_HEADER)
        )

    def put(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str = "application/octet-stream",
        owner: str | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> Written | None:
        """Write the object; None when the condition did not hold (somebody
        else wrote it first).

        `owner` is stored as metadata, in ASCII.
        """
        headers = {"content-type": content_type}
        if owner:
            headers[_OWNER_HEADER] = owner
        if if_match is not None:
            headers["if-match"] = if_match
        if if_none_match:
            headers["if-none-match"] = "*"

        try:
            return self._put(key, body, headers)
        except AwsError as error:
            # Conflict: another conditional write of the key was under way.
            failed = error.code in {"PreconditionFailed", "ConditionalRequestConflict"}
            if failed and (if_match is not None or if_none_match):
                return None
            if error.code == "NoSuchKey" and if_match is not None:
                return None
            raise

    def put_encrypted(
        self, key: str, body: bytes, encryption: Encryption, *, owner: str
    ) -> Written:
        """Write an object that is encrypted like this, whatever the bucket's default is."""
        headers = {
            "content-type": "application/octet-stream",
            _OWNER_HEADER: owner,
            **encryption.headers(),
        }
        return self._put(key, body, headers)

    def delete(self, key: str, version: str | None = None) -> None:
        """Delete the object, or one version of it. It is fine when there is
        none.

        On a versioned bucket, without a version, this writes a delete
        marker.
        """
        self._send("DeleteObject", "DELETE", key, query=_query_of(version))

    def delete_versions(self, versions: Sequence[Version]) -> None:
        """Delete versions and delete markers, `deletions.AT_ONCE` at most.

        Raises AwsError where S3 refuses one of them; others are deleted then.
        """
        together = [version for version in versions if deletions.fits(version)]
        for version in versions:
            if not deletions.fits(version):
                self.delete(version.key, version.id)
        if together:
            body, headers = deletions.request(together)
            answer = self._send(
                "DeleteObjects", "POST", query={"delete": ""}, headers=headers, body=body
            )
            deletions.check(answer.body)

    def versions(self, prefix: str) -> Iterator[Version]:
        """Every version and delete marker below the prefix, by key; a key's newest comes first."""
        started = self._started.pop(prefix, None)
        if started is not None:
            return iter(started.result())
        return listings.versions(self._page, prefix)

    def look_ahead(self, prefix: str) -> None:
        """Start listing in the background. The next call of `versions` returns the result, once."""
        started: Future[list[Version]] = Future()

        def look() -> None:
            try:
                started.set_result(list(listings.versions(self._page, prefix)))
            except BaseException as error:  # noqa: BLE001 - raised where the result is used
                started.set_exception(error)

        self._started[prefix] = started
        # A daemon: when the plan finds nothing to do, nobody waits for it.
        threading.Thread(target=look, daemon=True).start()

    def keys(self, prefix: str) -> list[str]:
        """Every key below the prefix."""
        return list(listings.keys(self._page, prefix))

    def purge(self, key: str, keep: Callable[[Version], bool] = lambda _: False) -> int:
        """Delete every version and delete marker of exactly this key;
        returns how many there were.

        Versions for which `keep` is true stay. Delete markers stay with
        them, because one may be what hides them.
        """
        found = [version for version in self.versions(key) if version.key == key]
        kept = {version.id for version in found if not version.deleted and keep(version)}

        purged = 0
        for version in found:
            if version.id in kept or (kept and version.deleted):
                continue
            self.delete(key, version.id)
            purged += 1
        return purged

    def _put(self, key: str, body: bytes, headers: Mapping[str, str]) -> Written:
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        checked = {
            **headers,
            "x-amz-sdk-checksum-algorithm": "SHA256",
            "x-amz-checksum-sha256": checksum,
        }
        answer = self._send("PutObject", "PUT", key, headers=checked, body=body)
        version = answer.headers.get("x-amz-version-id")
        return Written(_etag(answer), version, Encryption.found_in(answer.headers))

    def _page(self, operation: str, query: Mapping[str, str]) -> AwsAnswer:
        return self._send(operation, "GET", query=query)

    def _send(
        self,
        operation: str,
        method: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> AwsAnswer:
        """One request for the bucket, made again in another region when S3 says it is there."""
        region = self._region
        for last in (False, True):
            call = AwsCall(
                operation=f"s3:{operation}",
                method=method,
                url=self._url(region),
                path=f"/{key}",
                query=query or {},
                headers={**(headers or {}), **self._expected},
                body=body,
                region=region,
            )
            try:
                return self._client.send(call)
            except AwsError as error:
                # Compared with the region of this very request: another
                # thread may have found the bucket in the meantime.
                elsewhere = error.region not in {None, region or self._client.endpoint.region}
                if last or not elsewhere or self._client.endpoint.own_url("s3") is not None:
                    raise
                self._region = region = error.region
        raise AssertionError  # pragma: no cover - the second request returns or raises

    def _url(self, region: str | None = None) -> str:
        """The bucket's own host at AWS; a path everywhere else.

        AWS's certificates do not cover a bucket name with dots, and other servers may not know
        hosts of buckets at all.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
        """
        url = self._client.endpoint.url_of("s3", region)
        is_aws = self._client.endpoint.own_url("s3") is None
        if is_aws and _HOST_LABEL.fullmatch(self.name):
            return f"https://{self.name}.{urlsplit(url).netloc}"
        return f"{url}/{self.name}"


def _query_of(version: str | None) -> dict[str, str]:
    return {"versionId": version} if version else {}


def _etag(answer: AwsAnswer) -> str:
    if "etag" not in answer.headers:
        raise not_s3()
    return answer.headers["etag"]
