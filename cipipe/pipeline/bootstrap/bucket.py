"""The bucket that keeps Terraform's states and the ledger."""

from typing import Any

import msgspec

from cipipe import bounded
from cipipe.approvals import MOST_HOURS
from cipipe.saved_plans import PREFIX
from cipipe.tools.aws import buckets
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.errors import AwsError

_CLOSED = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}

# The statement of the bucket's policy that the Terraform root writes.
_OWN_STATEMENT = "TlsOnly"

# Saved plans delete themselves when they are used, and the old ones of a
# stage when a new one is saved. This deletes what is left.
_PLANS_RULE = {
    "ID": "cipipe-saved-plans",
    "Status": "Enabled",
    "Filter": {"Prefix": PREFIX},
    "Expiration": {"Days": MOST_HOURS // 24 + 1},
    "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
}


def steps(aws: Aws, name: str) -> tuple["BucketStep", ...]:
    """What makes the bucket exist, versioned and closed to the public; empty where it is.

    S3 encrypts every bucket itself. A bucket of another account is refused
    by S3.
    """
    owner = {"ExpectedBucketOwner": aws.account} if aws.account else {}
    exists = _answer(aws, "head_bucket", 404, Bucket=name, **owner) is not None
    close = BucketStep(
        f"close the bucket {name} to the public",
        "put_public_access_block",
        {"Bucket": name, "PublicAccessBlockConfiguration": _CLOSED, **owner},
    )
    version = BucketStep(
        f"keep all versions in the bucket {name}",
        "put_bucket_versioning",
        {"Bucket": name, "VersioningConfiguration": {"Status": "Enabled"}, **owner},
    )
    if not exists:
        made = buckets.creation(name, aws.endpoint.region)
        create = BucketStep(f"create the bucket {name}", "create_bucket", made)
        return (create, close, version, _expiring(name, {}, owner))

    found = []
    blocked = _answer(aws, "get_public_access_block", 404, Bucket=name, **owner)
    if (blocked or {}).get("PublicAccessBlockConfiguration") != _CLOSED:
        found.append(close)
    versioning = aws.call("s3", "get_bucket_versioning", Bucket=name, **owner)
    if versioning.get("Status") != "Enabled":
        found.append(version)
    lifecycle = _answer(aws, "get_bucket_lifecycle_configuration", 404, Bucket=name, **owner) or {}
    if not any(rule.get("ID") == _PLANS_RULE["ID"] for rule in lifecycle.get("Rules", [])):
        found.append(_expiring(name, lifecycle, owner))
    return tuple(found)


def _expiring(name: str, there: dict[str, Any], owner: dict[str, str]) -> "BucketStep":
    """What adds the rule for saved plans to those that the bucket has."""
    size = "TransitionDefaultMinimumObjectSize"
    kept = {size: there[size]} if size in there else {}
    rules = [*there.get("Rules", []), _PLANS_RULE]
    return BucketStep(
        f"delete saved plans after a week in the bucket {name}",
        "put_bucket_lifecycle_configuration",
        {"Bucket": name, "LifecycleConfiguration": {"Rules": rules}, **kept, **owner},
    )


def kept(aws: Aws, name: str) -> dict[str, Any]:
    """What somebody else set on the bucket, as variables of the Terraform
    root, which would replace it otherwise: the statements of its policy, and
    its encryption with a key. Empty for a bucket that only cipipe changed.
    """
    owner = {"ExpectedBucketOwner": aws.account} if aws.account else {}
    variables: dict[str, Any] = {}
    policy = _answer(aws, "get_bucket_policy", 404, Bucket=name, **owner)
    statements = bounded.decode(policy["Policy"].encode())["Statement"] if policy else []
    if isinstance(statements, dict):
        statements = [statements]
    foreign = [one for one in statements if one.get("Sid") != _OWN_STATEMENT]
    if foreign:
        variables["bucket_statements"] = msgspec.json.encode(foreign).decode()

    found = _answer(aws, "get_bucket_encryption", 404, Bucket=name, **owner) or {}
    rules = found.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
    rule = rules[0] if rules else {}
    default = rule.get("ApplyServerSideEncryptionByDefault", {})
    if default.get("SSEAlgorithm", "AES256") != "AES256":
        variables["bucket_encryption"] = {
            "algorithm": default["SSEAlgorithm"],
            "key": default.get("KMSMasterKeyID"),
            "bucket_key": rule.get("BucketKeyEnabled"),
        }
    return variables


class BucketStep(msgspec.Struct, frozen=True):
    """One request that changes the bucket."""

    # For people.
    title: str
    operation: str
    arguments: dict[str, Any]

    def run(self, aws: Aws) -> None:
        aws.call("s3", self.operation, **self.arguments)


def _answer(aws: Aws, operation: str, absent: int, **arguments: Any) -> Any:
    """What S3 answers; None where it answers with the status `absent`."""
    try:
        return aws.call("s3", operation, **arguments)
    except AwsError as error:
        if error.status != absent:
            raise
        return None
