"""Buckets of S3 themselves, not what is in them."""

from typing import Any

from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.errors import AwsError


def creation(name: str, region: str) -> dict[str, Any]:
    """The arguments of S3's CreateBucket."""
    # us-east-1 is the default, and S3 refuses it as a location.
    if region == "us-east-1":
        return {"Bucket": name}
    return {"Bucket": name, "CreateBucketConfiguration": {"LocationConstraint": region}}


def exists(aws: Aws, name: str) -> bool:
    """Whether there is such a bucket that these credentials may see. Raises AwsError."""
    try:
        aws.call("s3", "head_bucket", Bucket=name)
    except AwsError as error:
        if error.status != 404:
            raise
        return False
    return True


def create_versioned(aws: Aws, name: str) -> None:
    """Create a bucket that keeps all versions. Raises AwsError."""
    aws.call("s3", "create_bucket", **creation(name, aws.endpoint.region))
    aws.call(
        "s3",
        "put_bucket_versioning",
        Bucket=name,
        VersioningConfiguration={"Status": "Enabled"},
    )
