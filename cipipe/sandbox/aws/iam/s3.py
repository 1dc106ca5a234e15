"""The permissions of requests to S3.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
"""

import html
import re
import urllib.parse
from collections.abc import Iterable, Iterator

from cipipe.sandbox.aws.iam.call import Call
from cipipe.sandbox.aws.iam.evaluation import Need

# Sub-resource of a bucket → what follows `Get` and `Put` in the action.
_BUCKET = {
    "accelerate": "AccelerateConfiguration",
    "acl": "BucketAcl",
    "cors": "BucketCORS",
    "encryption": "EncryptionConfiguration",
    "lifecycle": "LifecycleConfiguration",
    "location": "BucketLocation",
    "logging": "BucketLogging",
    "notification": "BucketNotification",
    "object-lock": "BucketObjectLockConfiguration",
    "ownershipControls": "BucketOwnershipControls",
    "policy": "BucketPolicy",
    "policyStatus": "BucketPolicyStatus",
    "publicAccessBlock": "BucketPublicAccessBlock",
    "replication": "ReplicationConfiguration",
    "requestPayment": "BucketRequestPayment",
    "tagging": "BucketTagging",
    "versioning": "BucketVersioning",
    "website": "BucketWebsite",
}
_LISTS = {"uploads": "ListBucketMultipartUploads", "versions": "ListBucketVersions"}

# Sub-resource of an object → its action, by method.
_OBJECT = {
    ("GET", "acl"): "GetObjectAcl",
    ("GET", "attributes"): "GetObjectAttributes",
    ("GET", "tagging"): "GetObjectTagging",
    ("PUT", "tagging"): "PutObjectTagging",
    ("DELETE", "tagging"): "DeleteObjectTagging",
    ("GET", "uploadId"): "ListMultipartUploadParts",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("PUT", "uploadId"): "PutObject",
    ("POST", "uploadId"): "PutObject",
    ("POST", "uploads"): "PutObject",
}

# What else a query may have, without that another action is meant.
_PLAIN = re.compile(
    r"versionId|x-id|partNumber|part-number-marker|max-parts|response-[a-z-]+|X-Amz-[A-Za-z-]+"
)
_LISTING = re.compile(
    r"list-type|prefix|delimiter|marker|max-[a-z]+|encoding-type|fetch-owner|start-after"
    r"|continuation-token|(?:key|version-id|upload-id)-marker|x-id|X-Amz-[A-Za-z-]+"
)

# Headers of a new object that need a permission of their own.
_OBJECT_HEADERS = {
    "x-amz-acl": "PutObjectAcl",
    "x-amz-object-lock-legal-hold": "PutObjectLegalHold",
    "x-amz-object-lock-mode": "PutObjectRetention",
    "x-amz-tagging": "PutObjectTagging",
}

_CONTROL = re.compile(r"/v20180820/tags/(arn:[^:]+:s3:::.+)")


def needs(call: Call) -> Iterator[Need]:
    """Raises UndecidableError."""
    if found := _CONTROL.fullmatch(call.path):
        verb = {"GET": "ListTagsForResource", "POST": "TagResource", "DELETE": "UntagResource"}
        yield Need(action=f"s3:{verb[call.method]}", resource=found[1])
        return

    bucket, _, key = call.path.removeprefix("/").partition("/")
    if not bucket:
        if call.method != "GET":
            raise call.unknown()
        yield Need(action="s3:ListAllMyBuckets", resource="*")
    elif key:
        yield from _object(call, bucket, key)
    else:
        yield from _bucket(call, bucket)


def _bucket(call: Call, bucket: str) -> Iterator[Need]:
    arn = f"arn:{call.partition}:s3:::{bucket}"
    subresource = next((name for name in call.query if name in _BUCKET), None)
    if subresource is not None:
        # Only for these two, removing has an action of its own.
        own = call.method == "DELETE" and subresource in {"policy", "website"}
        verb = "Delete" if own else "Get" if call.method == "GET" else "Put"
        yield Need(action=f"s3:{verb}{_BUCKET[subresource]}", resource=arn)
    elif call.method == "POST" and "delete" in call.query:
        yield from _deletions(call, arn)
    elif call.method in {"GET", "HEAD"}:
        _refuse_others(call, _LISTS, _LISTING)
        action = next((_LISTS[name] for name in call.query if name in _LISTS), "ListBucket")
        yield Need(action=f"s3:{action}", resource=arn, context=_prefix(call))
    elif call.method in {"PUT", "DELETE"} and not call.query:
        verb = "Create" if call.method == "PUT" else "Delete"
        yield Need(action=f"s3:{verb}Bucket", resource=arn)
        if b"<Tag>" in call.body:
            yield Need(action="s3:TagResource", resource=arn)
    else:
        raise call.unknown()


def _prefix(call: Call) -> dict[str, tuple[str, ...]]:
    # An empty prefix is a value, too, and a request without one has none.
    return {"s3:prefix": (call.query["prefix"],)} if "prefix" in call.query else {}


def _preconditions(call: Call) -> dict[str, tuple[str, ...]]:
    """A write that depends on what is there has these keys."""
    names = ("if-match", "if-none-match")
    return {f"s3:{name}": (call.headers[name],) for name in names if name in call.headers}


def _deletions(call: Call, arn: str) -> Iterator[Need]:
    entries = re.findall(r"<Object>(.*?)</Object>", call.body.decode(), re.DOTALL)
    keys = [re.search(r"<Key>(.*?)</Key>", entry, re.DOTALL) for entry in entries]
    if not entries or len(entries) != call.body.count(b"<Object"):
        raise call.unknown()
    for entry, key in zip(entries, keys, strict=True):
        if key is None:
            raise call.unknown()
        action = "DeleteObjectVersion" if "<VersionId>" in entry else "DeleteObject"
        yield Need(action=f"s3:{action}", resource=f"{arn}/{html.unescape(key[1])}")


def _refuse_others(call: Call, known: Iterable[str], plain: re.Pattern[str]) -> None:
    """Raise UndecidableError for a query that may mean another action."""
    if any(name not in known and not plain.fullmatch(name) for name in call.query):
        raise call.unknown()


def _object(call: Call, bucket: str, key: str) -> Iterator[Need]:
    arn = f"arn:{call.partition}:s3:::{bucket}/{key}"
    version = call.query.get("versionId")
    suffix = "Version" if version else ""
    method = "GET" if call.method == "HEAD" else call.method
    subresource = next((name for name in call.query if (method, name) in _OBJECT), None)

    _refuse_others(call, [name for known, name in _OBJECT if known == method], _PLAIN)
    if subresource is not None:
        action = _OBJECT[method, subresource]
        versioned = suffix if action.endswith(("Acl", "Tagging", "Attributes")) else ""
        yield Need(action=f"s3:{action.replace('Object', f'Object{versioned}')}", resource=arn)
        if subresource == "attributes":
            yield Need(action=f"s3:GetObject{suffix}", resource=arn)
    elif method == "GET":
        yield Need(action=f"s3:GetObject{suffix}", resource=arn)
        # S3 only tells those who may list a bucket that an object is not
        # there.
        if not call.existing.has_object(call.account, bucket, key, version):
            yield Need(action="s3:ListBucket", resource=arn.partition("/")[0])
    elif method == "PUT":
        yield Need(action="s3:PutObject", resource=arn, context=_preconditions(call))
        for header, further in _OBJECT_HEADERS.items():
            if call.headers.get(header):
                yield Need(action=f"s3:{further}", resource=arn)
    elif method == "DELETE":
        yield Need(action=f"s3:DeleteObject{suffix}", resource=arn)
    else:
        raise call.unknown()

    source = urllib.parse.unquote(call.headers.get("x-amz-copy-source", "")).lstrip("/")
    if source:
        place, _, copied = source.partition("?versionId=")
        action = "s3:GetObjectVersion" if copied else "s3:GetObject"
        yield Need(action=action, resource=f"arn:{call.partition}:s3:::{place}")
