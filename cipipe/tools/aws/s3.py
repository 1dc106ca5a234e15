"""Objects in S3: conditional writes, SHA-256 with every write, versions.

Reading takes None for "there is no such object" only; anything else that AWS refuses is an error.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

import base64
import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from urllib.parse import unquote_plus, urlsplit
from xml.etree import ElementTree as ET

import msgspec

from cipipe.tools.aws.clients import Aws, AwsError, AwsUnreachable
from cipipe.tools.aws.connections import Answer
from cipipe.tools.aws.signed import document

_HOST = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""Buckets whose names can be part of a host name."""


_OWNER = "x-amz-meta-cipipe-owner"


class StoredObject(msgspec.Struct, frozen=True):
    """An S3 object as read: its bytes, its ETag (for If-Match) and its version, where the bucket
    keeps versions.
    """

    body: bytes
    etag: str
    version: str | None


class Head(msgspec.Struct, frozen=True):
    """An object without its bytes: the hex SHA-256 that S3 checked when it was written (None:
    written without one).

    `owner` is whose it says that it is, as `put` was told; None where it was not.
    """

    sha256: str | None
    version: str | None
    owner: str | None = None


class Written(msgspec.Struct, frozen=True):
    """What S3 says of a write."""

    etag: str
    version: str | None


class Version(msgspec.Struct, frozen=True):
    """One version of a key, or the marker that it was deleted; `latest`: it is what the key holds
    now.
    """

    key: str
    id: str
    latest: bool
    deleted: bool


class Bucket:
    """One S3 bucket. Keys are plain strings, bodies bytes; SHA-256 goes with every write and S3
    checks it.
    """

    def __init__(self, aws: Aws, name: str) -> None:
        self._aws = aws
        self.name = name
        self._owner = {"x-amz-expected-bucket-owner": aws.account} if aws.account else {}
        self._region: str | None = None

    def get(self, key: str, version: str | None = None) -> StoredObject | None:
        """The object (as it was in that version), or None where there is none.

        Raises AwsError for anything else, AccessDenied included.
        """
        try:
            answer = self._send(
                "GetObject", "GET", key, query={"versionId": version} if version else {}
            )
        except AwsError as error:
            if error.code in {"NoSuchKey", "NoSuchVersion"}:
                return None
            raise
        return StoredObject(answer.body, _etag(answer), answer.headers.get("x-amz-version-id"))

    def head(self, key: str, version: str | None = None) -> Head | None:
        """What S3 keeps beside the object (as it was in that version), or None where there is none."""
        query = {"versionId": version} if version else {}
        try:
            answer = self._send(
                "HeadObject", "HEAD", key, query=query, headers={"x-amz-checksum-mode": "ENABLED"}
            )
        except AwsError as error:
            if error.status == 404:
                return None
            raise
        checksum = answer.headers.get("x-amz-checksum-sha256", "")
        # One of a multipart upload ends with its number of parts: it is no hash of the contents.
        sha256 = base64.b64decode(checksum).hex() if checksum and "-" not in checksum else None
        return Head(sha256, answer.headers.get("x-amz-version-id"), answer.headers.get(_OWNER))

    def versions(self, prefix: str) -> Iterator[Version]:
        """Every version and delete marker below `prefix`, key by key; a key's newest comes first."""
        begun = self._aws.begun.pop((self.name, prefix), None)
        return self._versions(prefix) if begun is None else iter(begun.result())

    def look_ahead(self, prefix: str) -> None:
        """Begin to list what `versions` is going to be asked for: the next call gets what is found
        now.
        """
        begun: Future[list[Version]] = Future()

        def look() -> None:
            try:
                begun.set_result(list(self._versions(prefix)))
            except BaseException as error:  # noqa: BLE001 - it is raised where the answer is asked for
                begun.set_exception(error)

        self._aws.begun[self.name, prefix] = begun
        threading.Thread(target=look, daemon=True).start()

    def _versions(self, prefix: str) -> Iterator[Version]:
        def following(page: ET.Element) -> dict[str, str]:
            key, version = (
                _decoding(page)(page.findtext("{*}NextKeyMarker", "")),
                page.findtext("{*}NextVersionIdMarker"),
            )
            return {"key-marker": key, **({"version-id-marker": version} if version else {})}

        asked = {"versions": "", "prefix": prefix}
        for page in self._pages("ListObjectVersions", "ListVersionsResult", asked, following):
            space, decoded = page.tag.removesuffix("ListVersionsResult"), _decoding(page)
            key, number, latest = f"{space}Key", f"{space}VersionId", f"{space}IsLatest"
            kinds = {f"{space}Version": False, f"{space}DeleteMarker": True}
            for element in page:  # of which there may be very many
                if (deleted := kinds.get(element.tag)) is not None:
                    name, now = (
                        decoded(element.findtext(key, "")),
                        element.findtext(latest) == "true",
                    )
                    yield Version(name, element.findtext(number, ""), now, deleted)

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
        """Write the object; None where the condition did not hold (somebody else was there first).

        `owner` is kept with it as metadata, in ASCII.
        """
        conditions: dict[str, str] = {}
        if if_match is not None:
            conditions["if-match"] = if_match
        if if_none_match:
            conditions["if-none-match"] = "*"
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        headers = {
            "content-type": content_type,
            "x-amz-sdk-checksum-algorithm": "SHA256",
            "x-amz-checksum-sha256": checksum,
            **({_OWNER: owner} if owner else {}),
            **conditions,
        }
        try:
            answer = self._send("PutObject", "PUT", key, headers=headers, body=body)
        except AwsError as error:
            if conditions and error.code in {"PreconditionFailed", "ConditionalRequestConflict"}:
                return None
            if if_match is not None and error.code == "NoSuchKey":
                return None
            raise
        return Written(_etag(answer), answer.headers.get("x-amz-version-id"))

    def delete(self, key: str, version: str | None = None) -> None:
        """Delete the object (on a versioned bucket: put a delete marker), or one version. No object
        is fine.
        """
        self._send("DeleteObject", "DELETE", key, query={"versionId": version} if version else {})

    def keys(self, prefix: str) -> list[str]:
        """Every key below `prefix`."""
        pages = self._pages(
            "ListObjectsV2",
            "ListBucketResult",
            {"list-type": "2", "prefix": prefix},
            lambda page: {"continuation-token": page.findtext("{*}NextContinuationToken", "")},
        )
        return [
            _decoding(page)(e.findtext("{*}Key", ""))
            for page in pages
            for e in page.iterfind("{*}Contents")
        ]

    def all_keys(self) -> set[str]:
        """Every key that has any version or delete marker; none where there is no such bucket."""
        try:
            return {version.key for version in self.versions("")}
        except AwsError as error:
            if error.code != "NoSuchBucket":
                raise
            return set()

    def purge(self, key: str, keep: Callable[[Version], bool] = lambda _: False) -> int:
        """Delete every version and delete marker of exactly this key; gives how many there were.

        Versions that `keep` is true of stay, and so do the delete markers then, which may hide
        them.
        """
        found = [version for version in self.versions(key) if version.key == key]
        kept = {version.id for version in found if not version.deleted and keep(version)}
        gone = [
            version.id
            for version in found
            if version.id not in kept and not (kept and version.deleted)
        ]
        for version in gone:
            self.delete(key, version)
        return len(gone)

    def _pages(
        self,
        operation: str,
        root: str,
        asked: Mapping[str, str],
        following: Callable[[ET.Element], dict[str, str]],
    ) -> Iterator[ET.Element]:
        """Every page of a listing, whose documents have this root; `following` is what to ask for
        after a page.

        Raises AwsUnreachable where it would go on where it has been.
        """
        more: dict[str, str] = {}
        while True:
            page = _page(
                self._send(operation, "GET", query={**asked, "encoding-type": "url", **more}), root
            )
            yield page
            if page.findtext("{*}IsTruncated") != "true":
                return
            last, more = more, following(page)
            if more == last or not all(more.values()):
                raise _stranger()

    def _send(
        self,
        operation: str,
        method: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """One request for the bucket; where S3 says that it is in another region, there."""
        region = self._region
        for last in (False, True):
            try:
                return self._aws.signed.send(
                    f"s3:{operation}",
                    method,
                    self._url(region),
                    f"/{key}",
                    query=query,
                    headers={**(headers or {}), **self._owner},
                    body=body,
                    region=region,
                )
            except AwsError as error:
                elsewhere = error.region not in {None, region or self._aws.endpoint.region}
                if last or not elsewhere or self._aws.endpoint.own_url("s3") is not None:
                    raise
                self._region = region = error.region
        raise AssertionError  # pragma: no cover - the second request returns or raises

    def _url(self, region: str | None = None) -> str:
        """By the bucket's own host name, as AWS has it; certificates do not cover one with dots,
        nor other servers' at all.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
        """
        url = self._aws.endpoint.url_of("s3", region)
        if self._aws.endpoint.own_url("s3") is not None or not _HOST.fullmatch(self.name):
            return f"{url}/{self.name}"
        return f"https://{self.name}.{urlsplit(url).netloc}"


def _page(answer: Answer, name: str) -> ET.Element:
    root = document(answer.body)
    if root is None or root.tag.rpartition("}")[2] != name:
        raise _stranger()
    return root


def _decoding(page: ET.Element) -> Callable[[str], str]:
    """What makes a key of one in a listing: S3 encodes them as a form does, and servers that do not
    say so do not.
    """
    return unquote_plus if page.findtext("{*}EncodingType") == "url" else str


def _etag(answer: Answer) -> str:
    if "etag" not in answer.headers:
        raise _stranger()
    return answer.headers["etag"]


def _stranger() -> AwsUnreachable:
    return AwsUnreachable("what answered is not S3: a proxy?")
