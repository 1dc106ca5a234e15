"""Requests that delete many versions of objects, and what S3 answers."""

from xml.etree import ElementTree as ET

import pytest

from cipipe.tools.aws import deletions
from cipipe.tools.aws.errors import AwsError, AwsUnreachable
from cipipe.tools.aws.listings import Version

RESULT = '<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{}</DeleteResult>'


def version(key: str) -> Version:
    return Version(key=key, id="v1", latest=True, deleted=False)


@pytest.mark.parametrize("key", ["a&b<c>.csv", "']]>", "ü/\U0001f600", "a b", "\x7f\x85"])
def test_a_document_names_keys_as_they_are(key: str) -> None:
    assert deletions.fits(version(key))
    body, headers = deletions.request([version(key)])
    assert [found.text for found in ET.fromstring(body).iterfind("{*}Object/{*}Key")] == [key]
    assert headers["x-amz-checksum-sha256"]


@pytest.mark.parametrize("key", ["line\nend", "re\rturn", "tab\t", "nul\x00", "\x1b[2J", "\uffff"])
def test_other_keys_are_deleted_one_by_one(key: str) -> None:
    assert not deletions.fits(version(key))


def test_a_refusal_in_an_answer_is_an_error() -> None:
    deletions.check(RESULT.format("").encode())
    error = "<Error><Key>a</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
    with pytest.raises(AwsError, match="AccessDenied: a: no"):
        deletions.check(RESULT.format(error).encode())
    with pytest.raises(AwsUnreachable):
        deletions.check(b"<html></html>")
