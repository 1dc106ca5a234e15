"""Objects in S3: conditional writes, SHA-256 with every write, versions.

Reading takes None for "there is no such object" only; anything else that AWS refuses is an error.
"""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from cipipe.tools.aws import Aws, AwsError, translated


@dataclass(frozen=True)
class StoredObject:
    """An S3 object as read: its bytes, its ETag (for If-Match) and its version, where the bucket keeps versions."""

    body: bytes
    etag: str
    version: str | None


@dataclass(frozen=True)
class Head:
    """An object without its bytes: the hex SHA-256 that S3 checked when it was written (None: written without one)."""

    sha256: str | None
    version: str | None


@dataclass(frozen=True)
class Written:
    """What S3 says of a write."""

    etag: str
    version: str | None


@dataclass(frozen=True)
class Version:
    """One version of a key, or the marker that it was deleted; `latest`: it is what the key holds now."""

    key: str
    id: str
    latest: bool
    deleted: bool


class Bucket:
    """One S3 bucket. Keys are plain strings, bodies bytes; SHA-256 goes with every write and S3 checks it."""

    def __init__(self, aws: Aws, name: str) -> None:
        self._aws = aws
        self.name = name
        self._where = {"Bucket": name} | ({"ExpectedBucketOwner": aws.account} if aws.account else {})

    def get(self, key: str, version: str | None = None) -> StoredObject | None:
        """The object (as it was in that version), or None where there is none.

        Raises AwsError for anything else, AccessDenied included.
        """
        which = {"VersionId": version} if version else {}
        try:
            answer = self._aws.call("s3", "get_object", Key=key, **which, **self._where)
            with translated("s3"):
                body = answer["Body"].read()
        except AwsError as error:
            if error.code in {"NoSuchKey", "NoSuchVersion"}:
                return None
            raise
        return StoredObject(body, answer["ETag"], answer.get("VersionId"))

    def head(self, key: str) -> Head | None:
        """What S3 keeps beside the object, or None where there is none."""
        try:
            answer = self._aws.call("s3", "head_object", Key=key, ChecksumMode="ENABLED", **self._where)
        except AwsError as error:
            if error.status == 404:
                return None
            raise
        checksum = str(answer.get("ChecksumSHA256", ""))
        # One of a multipart upload ends with its number of parts: it is no hash of the contents.
        sha256 = base64.b64decode(checksum).hex() if checksum and "-" not in checksum else None
        return Head(sha256, answer.get("VersionId"))

    def versions(self, prefix: str) -> Iterator[Version]:
        """Every version and delete marker below `prefix`, key by key; a key's newest comes first."""
        for page in self._aws.pages("s3", "list_object_versions", Prefix=prefix, **self._where):
            for kind in ("Versions", "DeleteMarkers"):
                for entry in page.get(kind, ()):
                    yield Version(entry["Key"], entry["VersionId"], entry["IsLatest"], deleted=kind == "DeleteMarkers")

    def put(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str = "application/octet-stream",
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> Written | None:
        """Write the object; None where the condition did not hold (somebody else was there first)."""
        conditions: dict[str, str] = {}
        if if_match is not None:
            conditions["IfMatch"] = if_match
        if if_none_match:
            conditions["IfNoneMatch"] = "*"
        try:
            answer = self._aws.call(
                "s3",
                "put_object",
                Key=key,
                Body=body,
                ContentType=content_type,
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=base64.b64encode(hashlib.sha256(body).digest()).decode(),
                **conditions,
                **self._where,
            )
        except AwsError as error:
            if conditions and error.code in {"PreconditionFailed", "ConditionalRequestConflict"}:
                return None
            if if_match is not None and error.code == "NoSuchKey":
                return None
            raise
        return Written(answer["ETag"], answer.get("VersionId"))

    def delete(self, key: str) -> None:
        """Delete the object (on a versioned bucket: put a delete marker). No object is fine."""
        self._aws.call("s3", "delete_object", Key=key, **self._where)

    def keys(self, prefix: str) -> list[str]:
        """Every key below `prefix`."""
        pages = self._aws.pages("s3", "list_objects_v2", Prefix=prefix, **self._where)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def all_keys(self) -> set[str]:
        """Every key that has any version or delete marker; none where there is no such bucket."""
        try:
            pages = list(self._aws.pages("s3", "list_object_versions", **self._where))
        except AwsError as error:
            if error.code != "NoSuchBucket":
                raise
            return set()
        return {
            entry["Key"] for page in pages for kind in ("Versions", "DeleteMarkers") for entry in page.get(kind, ())
        }

    def purge(self, key: str) -> int:
        """Delete every version and delete marker of exactly this key; gives how many there were."""
        count = 0
        for page in self._aws.pages("s3", "list_object_versions", Prefix=key, **self._where):
            for entry in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
                if entry["Key"] == key:
                    self._aws.call("s3", "delete_object", Key=key, VersionId=entry["VersionId"], **self._where)
                    count += 1
        return count
