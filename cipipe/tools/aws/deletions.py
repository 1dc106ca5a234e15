"""Deleting many versions of objects in S3 with one request.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from xml.sax.saxutils import escape

from cipipe.tools.aws.errors import AwsError
from cipipe.tools.aws.listings import Version, not_s3
from cipipe.tools.aws.messages import document

AT_ONCE = 1000
"""How many versions S3 deletes with one request."""

# What XML cannot contain, or what a parser changes.
_NOT_IN_XML = re.compile("[\x00-\x1f\ufffe\uffff\ud800-\udfff]")


def fits(version: Version) -> bool:
    """Whether the document can name the version's key."""
    return _NOT_IN_XML.search(version.key) is None


def request(versions: Iterable[Version]) -> tuple[bytes, dict[str, str]]:
    """The body of a request, and its headers."""
    objects = "".join(
        f"<Object><Key>{escape(one.key)}</Key><VersionId>{escape(one.id)}</VersionId></Object>"
        for one in versions
    )
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    body = f'<Delete xmlns="{space}"><Quiet>true</Quiet>{objects}</Delete>'.encode()
    return body, {
        "content-type": "application/xml",
        "x-amz-sdk-checksum-algorithm": "SHA256",
        "x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
    }


def check(body: bytes) -> None:
    """Raise the first refusal in an answer, whose status is 200 all the same."""
    root = document(body)
    if root is None or root.tag.rpartition("}")[2] != "DeleteResult":
        raise not_s3()
    refused = root.find("{*}Error")
    if refused is None:
        return
    key = refused.findtext("{*}Key", "")
    message = refused.findtext("{*}Message", "")
    code = refused.findtext("{*}Code", "Unknown")
    raise AwsError("s3:DeleteObjects", code, f"{key}: {message}", 403 if "Denied" in code else 200)
