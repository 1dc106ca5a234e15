"""What `cipipe bootstrap` keeps of a bucket that the account already had, as S3 answers it."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from cipipe.pipeline.bootstrap import bucket
from cipipe.sandbox import SandboxOptions, attached
from cipipe.tools.aws.clients import Aws

ACCOUNT = "111111111111"
REGION = "eu-central-1"
AUDIT = {
    "Sid": "Audit",
    "Effect": "Allow",
    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
    "Action": "s3:ListBucket",
    "Resource": "arn:aws:s3:::audited",
}
TLS = {**AUDIT, "Sid": "TlsOnly"}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    options = SandboxOptions(
        directory=tmp_path_factory.mktemp("sandbox"), account_id=ACCOUNT, docker=False
    )
    with attached(options, env=dict(os.environ), say=print) as running:
        yield Aws(running.endpoint(REGION), running.admin_of(ACCOUNT), account=ACCOUNT)


def made(aws: Aws, name: str) -> str:
    for step in bucket.steps(aws, name):
        step.run(aws)
    return name


def test_a_new_bucket_has_nothing_to_keep(aws: Aws) -> None:
    assert bucket.kept(aws, made(aws, "plain")) == {}


@pytest.mark.parametrize(
    ("statements", "kept"),
    [
        ([AUDIT, TLS], [AUDIT]),
        (AUDIT, [AUDIT]),
        ([TLS], None),
    ],
)
def test_statements_of_others(aws: Aws, statements: Any, kept: Any) -> None:
    name = made(aws, "audited")
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    aws.call("s3", "put_bucket_policy", Bucket=name, Policy=policy)
    found = bucket.kept(aws, name)
    if kept is None:
        assert found == {}
    else:
        assert json.loads(found["bucket_statements"]) == kept


@pytest.mark.parametrize(
    ("default", "kept"),
    [
        ({"SSEAlgorithm": "AES256"}, None),
        ({"SSEAlgorithm": "aws:kms"}, ("aws:kms", None)),
        ({"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/team"}, ("aws:kms", "alias/team")),
    ],
)
def test_encryption(aws: Aws, default: dict[str, str], kept: tuple[str, str | None] | None) -> None:
    name = made(aws, "encrypted")
    rules = [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}]
    aws.call(
        "s3",
        "put_bucket_encryption",
        Bucket=name,
        ServerSideEncryptionConfiguration={"Rules": rules},
    )
    found = bucket.kept(aws, name)
    if kept is None:
        assert found == {}
        return
    encryption = found["bucket_encryption"]
    assert (encryption["algorithm"], encryption["key"]) == kept
    assert encryption["bucket_key"] is True


def test_the_rules_of_others_stay_beside_that_for_saved_plans(aws: Aws) -> None:
    name = made(aws, "expiring")
    rules = aws.call("s3", "get_bucket_lifecycle_configuration", Bucket=name)["Rules"]
    assert [rule["ID"] for rule in rules] == ["cipipe-saved-plans"]
    foreign = {
        "ID": "logs",
        "Status": "Enabled",
        "Filter": {"Prefix": "logs/"},
        "Expiration": {"Days": 30},
    }
    aws.call(
        "s3",
        "put_bucket_lifecycle_configuration",
        Bucket=name,
        LifecycleConfiguration={"Rules": [foreign]},
    )
    (step,) = bucket.steps(aws, name)
    assert "saved plans" in step.title
    step.run(aws)
    after = aws.call("s3", "get_bucket_lifecycle_configuration", Bucket=name)["Rules"]
    assert after == [foreign, *rules]
    assert after[1]["Filter"] == {"Prefix": "cipipe-plans/"}
    assert bucket.steps(aws, name) == ()
