"""The bucket that keeps Terraform's states and the ledger."""

from typing import Any

from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.errors import AwsError

_CLOSED = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}


def ensure_bucket(aws: Aws, name: str) -> None:
    """Create the bucket unless it is ours already: versioned and closed to
    the public.

    S3 encrypts every bucket itself. A bucket of another account is refused
    by S3.
    """
    owner = {"ExpectedBucketOwner": aws.account} if aws.account else {}
    try:
        aws.call("s3", "head_bucket", Bucket=name, **owner)
    except AwsError as error:
        if error.status != 404:
            raise
        aws.call("s3", "create_bucket", Bucket=name, **_location(aws.endpoint.region))
    aws.call(
        "s3",
        "put_public_access_block",
        Bucket=name,
        PublicAccessBlockConfiguration=_CLOSED,
        **owner,
    )
    aws.call(
        "s3",
        "put_bucket_versioning",
        Bucket=name,
        VersioningConfiguration={"Status": "Enabled"},
        **owner,
    )


def _location(region: str) -> dict[str, Any]:
    # us-east-1 is the default, and S3 refuses it as a location.
    if region == "us-east-1":
        return {}
    return {"CreateBucketConfiguration": {"LocationConstraint": region}}
