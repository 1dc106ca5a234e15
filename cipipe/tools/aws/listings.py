"""Listings of S3: their pages, and the keys in them.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from collections.abc import Callable, Iterator, Mapping
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

import msgspec

from cipipe.tools.aws.errors import AwsUnreachable
from cipipe.tools.aws.messages import AwsAnswer, document

Query = Mapping[str, str]
Send = Callable[[str, Query], AwsAnswer]
"""Sends one request for a page: an operation of S3, and its query."""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a key, or one of its delete markers."""

    key: str
    id: str
    # Whether it is what a reader of the key gets now.
    latest: bool
    # Whether it is a delete marker.
    deleted: bool


def versions(send: Send, prefix: str) -> Iterator[Version]:
    """Every version and delete marker below the prefix, by key; a key's newest comes first."""
    query = {"versions": "", "prefix": prefix}
    pages = _pages(send, "ListObjectVersions", "ListVersionsResult", query, _next_versions)
    for page in pages:
        yield from _versions_of(page)


def keys(send: Send, prefix: str) -> Iterator[str]:
    """Every key below the prefix."""
    query = {"list-type": "2", "prefix": prefix}
    for page in _pages(send, "ListObjectsV2", "ListBucketResult", query, _next_keys):
        decode = _decoder(page)
        for element in page.iterfind("{*}Contents"):
            yield decode(element.findtext("{*}Key", ""))


def not_s3() -> AwsUnreachable:
    """The error for an answer that S3 cannot have given."""
    return AwsUnreachable("what answered is not S3: a proxy?")


def _versions_of(page: ET.Element) -> Iterator[Version]:
    # A page has a thousand of these: `{*}` in a path costs several times
    # what a whole name does.
    space = page.tag.removesuffix("ListVersionsResult")
    key_tag = f"{space}Key"
    id_tag = f"{space}VersionId"
    latest_tag = f"{space}IsLatest"
    deleted_by_tag = {f"{space}Version": False, f"{space}DeleteMarker": True}

    decode = _decoder(page)
    for element in page:
        deleted = deleted_by_tag.get(element.tag)
        if deleted is not None:
            yield Version(
                key=decode(element.findtext(key_tag, "")),
                id=element.findtext(id_tag, ""),
                latest=element.findtext(latest_tag) == "true",
                deleted=deleted,
            )


def _next_versions(page: ET.Element) -> dict[str, str]:
    following = {"key-marker": _decoder(page)(page.findtext("{*}NextKeyMarker", ""))}
    version = page.findtext("{*}NextVersionIdMarker")
    if version:
        following["version-id-marker"] = version
    return following


def _next_keys(page: ET.Element) -> dict[str, str]:
    return {"continuation-token": page.findtext("{*}NextContinuationToken", "")}


def _pages(
    send: Send,
    operation: str,
    root: str,
    query: Query,
    following: Callable[[ET.Element], dict[str, str]],
) -> Iterator[ET.Element]:
    """Every page of a listing. `root` is the name of its documents' root.

    `following` returns the query parameters for the next page. Raises
    AwsUnreachable when they are the same as for this one: the listing would
    never end.
    """
    marker: dict[str, str] = {}
    while True:
        page = _page(send(operation, {**query, "encoding-type": "url", **marker}), root)
        yield page

        if page.findtext("{*}IsTruncated") != "true":
            return
        last = marker
        marker = following(page)
        if marker == last or not all(marker.values()):
            raise not_s3()


def _page(answer: AwsAnswer, name: str) -> ET.Element:
    root = document(answer.body)
    if root is None or root.tag.rpartition("}")[2] != name:
        raise not_s3()
    return root


def _decoder(page: ET.Element) -> Callable[[str], str]:
    """Turns a key of this page into the real one.

    S3 encodes keys as a form does, because XML cannot contain control
    characters. Some servers ignore `encoding-type=url`, and do not send
    `EncodingType`.
    """
    return unquote_plus if page.findtext("{*}EncodingType") == "url" else str
