"""Saved plans on S3 (moto): encrypted, checked byte for byte, used once, and deleted."""

from datetime import UTC, datetime, timedelta

import pytest

from cipipe.approvals import SavedPlan
from cipipe.errors import RefusedError, StageError
from cipipe.model import Owner
from cipipe.saved_plans import SavedPlans
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.s3 import Bucket
from support.saved import BODY, saved
from support.scripted import ScriptedServer

REGION = "eu-central-1"
FOLDER = "cipipe-plans/ledger/shop/live/iac"
OWNER = Owner("shop", "live", "iac")


@pytest.fixture
def aws(endpoint: str) -> Aws:
    made = Aws(Endpoint(REGION, endpoint), Credentials("testing", "testing"))
    made.call(
        "s3",
        "create_bucket",
        Bucket="ledger",
        CreateBucketConfiguration={"LocationConstraint": REGION},
    )
    made.call(
        "s3",
        "put_bucket_versioning",
        Bucket="ledger",
        VersioningConfiguration={"Status": "Enabled"},
    )
    return made


@pytest.fixture
def store(aws: Aws) -> SavedPlans:
    return of(aws.bucket("ledger"))


def of(bucket: Bucket) -> SavedPlans:
    return SavedPlans(bucket=bucket, ledger_prefix="ledger/shop/live/", owner=OWNER)


def kept(store: SavedPlans, **changes: object) -> SavedPlan:
    plan = saved(datetime.now(UTC), **changes)
    store.save(plan, BODY)
    return plan


def head(aws: Aws, plan: SavedPlan) -> dict[str, object]:
    key = f"{FOLDER}/{plan.id}.tfplan"
    found: dict[str, object] = aws.call("s3", "head_object", Bucket="ledger", Key=key)
    return found


def test_a_plan_comes_back_as_it_was(aws: Aws, store: SavedPlans) -> None:
    plan = kept(store)
    assert store.read(plan.id).plan == plan
    assert store.body(plan) == BODY
    found = head(aws, plan)
    assert found["ServerSideEncryption"] == "AES256"
    assert found["Metadata"] == {"cipipe-owner": "shop/live/iac"}


def test_a_plan_is_encrypted_with_the_key_of_the_bucket(aws: Aws, store: SavedPlans) -> None:
    key = aws.call("kms", "create_key")["KeyMetadata"]["Arn"]
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    aws.call(
        "s3",
        "put_bucket_encryption",
        Bucket="ledger",
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": default}]
        },
    )
    found = head(aws, kept(store))
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", key)


def test_one_byte_that_changed(aws: Aws, store: SavedPlans) -> None:
    plan = kept(store)
    changed = BODY[:-1] + bytes([BODY[-1] ^ 1])
    aws.bucket("ledger").put(f"{FOLDER}/{plan.id}.tfplan", changed)
    with pytest.raises(RefusedError) as caught:
        store.body(plan)
    assert caught.value.id == "saved-plan-damaged"
    assert plan.sha256 in caught.value.message


@pytest.mark.parametrize("body", [b"", b"{", b'{"schema": 1}'])
def test_a_description_that_changed(body: bytes, aws: Aws, store: SavedPlans) -> None:
    plan = kept(store)
    aws.bucket("ledger").put(f"{FOLDER}/{plan.id}.json", body)
    with pytest.raises(RefusedError) as caught:
        store.read(plan.id)
    assert caught.value.id == "saved-plan-damaged"


def test_the_description_of_another_plan(aws: Aws, store: SavedPlans) -> None:
    plan, other = kept(store), kept(store)
    bucket = aws.bucket("ledger")
    stored = bucket.get(f"{FOLDER}/{other.id}.json")
    assert stored is not None
    bucket.put(f"{FOLDER}/{plan.id}.json", stored.body)
    with pytest.raises(RefusedError) as caught:
        store.read(plan.id)
    assert caught.value.id == "saved-plan-damaged"


def test_a_plan_that_nobody_saved(store: SavedPlans) -> None:
    with pytest.raises(RefusedError) as caught:
        store.read(saved().id)
    assert caught.value.id == "saved-plan-unknown"


def test_a_plan_is_used_once_and_no_version_of_it_stays(aws: Aws, store: SavedPlans) -> None:
    plan = kept(store)
    first, second = store.read(plan.id), store.read(plan.id)
    store.use(first, by="https://ci/8")
    with pytest.raises(RefusedError) as caught:
        store.use(second, by="https://ci/9")
    assert caught.value.id == "saved-plan-used"
    assert "https://ci/8" in caught.value.message
    assert store.read(plan.id).plan.used_by == "https://ci/8"
    assert list(aws.bucket("ledger").versions(f"{FOLDER}/{plan.id}.tfplan")) == []
    with pytest.raises(RefusedError, match="the plan itself is not"):
        store.body(plan)


def test_saving_deletes_what_is_too_old(aws: Aws, store: SavedPlans) -> None:
    old = saved(datetime.now(UTC) - timedelta(days=8))
    store.save(old, BODY)
    recent = kept(store)
    found = {version.key for version in aws.bucket("ledger").versions("cipipe-plans/")}
    assert found == {f"{FOLDER}/{recent.id}.{ending}" for ending in ("json", "tfplan")}


DENIED = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"


def test_a_role_without_access(server: ScriptedServer, bucket: Bucket) -> None:
    server.answers = [(403, DENIED, {})]
    with pytest.raises(StageError) as caught:
        of(bucket).read(saved().id)
    assert caught.value.id == "saved-plans-denied"
    assert "cipipe bootstrap" in str(caught.value.hint)
