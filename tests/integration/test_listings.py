"""Listings of S3, and answers that S3 cannot have given."""

import pytest

from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.errors import AwsError, AwsUnreachable
from cipipe.tools.aws.s3 import Bucket
from support.scripted import ScriptedServer, found

KEYS = Credentials("AKIDEXAMPLE", "secret")
REGION = "eu-central-1"
PAGE = (
    "<ListVersionsResult "
    'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>{more}</IsTruncated>'
    "<EncodingType>url</EncodingType><NextKeyMarker>a%2Bb</"
    "NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker>"
    "<Version><Key>{key}</Key><VersionId>v1</VersionId><IsLatest>true</"
    "IsLatest><Owner><ID>x</ID></Owner></Version>"
    "<DeleteMarker><Key>{key}</Key><VersionId>v0</VersionId><IsLatest>false</IsLatest></"
    "DeleteMarker>"
    "</ListVersionsResult>"
)
SLOW = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
DENIED = "<Error><Code>AccessDenied</Code><Message>No.</Message></Error>"


def test_versions_on_several_pages(server: ScriptedServer, bucket: Bucket) -> None:
    server.answers = [
        found(PAGE.format(more="true", key="a%2Bb")),
        found(PAGE.format(more="false", key="c%C3%BC+d")),
    ]
    versions = list(bucket.versions("a+"))
    assert [(v.key, v.id, v.latest, v.deleted) for v in versions] == [
        ("a+b", "v1", True, False),
        ("a+b", "v0", False, True),
        ("cü d", "v1", True, False),
        ("cü d", "v0", False, True),
    ]
    assert server.asked[0][1] == "/box/?encoding-type=url&prefix=a%2B&versions="
    assert (
        server.asked[1][1]
        == "/box/?encoding-type=url&key-marker=a%2Bb&prefix=a%2B&version-id-marker=v1&versions="
    )


def test_keys_on_several_pages(server: ScriptedServer, bucket: Bucket) -> None:
    page = (
        "<ListBucketResult>{}<EncodingType>url</EncodingType><Contents><Key>{}</Key></Contents></"
        "ListBucketResult>"
    )
    more = (
        "<IsTruncated>true</IsTruncated><NextContinuationToken>on+and/on=</NextContinuationToken>"
    )
    server.answers = [
        found(page.format(more, "a")),
        found(page.format("<IsTruncated>false</IsTruncated>", "b+c")),
    ]
    assert bucket.keys("") == ["a", "b c"]
    assert (
        server.asked[1][1]
        == "/box/?continuation-token=on%2Band%2Fon%3D&encoding-type=url&list-type=2&prefix="
    )
    server.answers = [found(page.format("<IsTruncated>true</IsTruncated>", "a"))]
    with pytest.raises(AwsUnreachable, match="is not S3"):
        bucket.keys("")


def test_keys_of_a_server_that_does_not_encode_them(server: ScriptedServer, bucket: Bucket) -> None:
    page = PAGE.format(more="false", key="a+b%20").replace("<EncodingType>url</EncodingType>", "")
    server.answers = [found(page)]
    assert {version.key for version in bucket.versions("")} == {"a+b%20"}
    listed = "<ListBucketResult>{}<Contents><Key>a+b%20</Key></Contents></ListBucketResult>"
    server.answers = [found(listed.format(""))]
    assert bucket.keys("") == ["a+b%20"]
    server.answers = [found(listed.format("<EncodingType>url</EncodingType>"))]
    assert bucket.keys("") == ["a b "]


@pytest.mark.parametrize("marker", ["<NextKeyMarker/>", "<NextKeyMarker>a</NextKeyMarker>"])
def test_an_endless_listing_is_an_error(
    server: ScriptedServer, bucket: Bucket, marker: str
) -> None:
    server.answers = [
        found(f"<ListVersionsResult><IsTruncated>true</IsTruncated>{marker}</ListVersionsResult>")
    ]
    with pytest.raises(AwsUnreachable, match="is not S3"):
        list(bucket.versions(""))
    assert len(server.asked) <= 2


def test_a_listing_that_was_started_ahead_is_used_once(
    server: ScriptedServer, bucket: Bucket
) -> None:
    server.answers = [found(PAGE.format(more="false", key="a"))]
    bucket.look_ahead("p/")
    assert len(list(bucket.versions("p/"))) == 2
    assert len(server.asked) == 1
    assert len(list(bucket.versions("p/"))) == 2
    assert len(server.asked) == 2, "what is known of a moment ago does not count twice"


def test_a_listing_that_was_started_ahead_raises_where_it_is_used(
    server: ScriptedServer, bucket: Bucket
) -> None:
    server.answers = [(403, DENIED, {})]
    bucket.look_ahead("p/")
    with pytest.raises(AwsError, match="AccessDenied"):
        list(bucket.versions("p/"))


@pytest.mark.parametrize("body", ["", "<html>log in first", "<html>log in</html>", "{}", SLOW])
def test_answers_that_are_not_from_s3(server: ScriptedServer, bucket: Bucket, body: str) -> None:
    server.answers = [(200, body, {})]
    for ask in (
        lambda: list(bucket.versions("")),
        lambda: bucket.keys(""),
        lambda: bucket.get("a"),
    ):
        with pytest.raises(AwsUnreachable, match="is not S3"):
            ask()
    with pytest.raises(AwsUnreachable, match="is not S3"):
        bucket.put("a", b"")
