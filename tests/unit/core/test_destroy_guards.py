"""What the attributes of resources say about deleting them."""

from typing import Any

import pytest

from cipipe.errors import Problem
from cipipe.model import Mode
from cipipe.report.losses import losses
from cipipe.results import Loss, Preflight, Report, Result, StageReport
from cipipe.stages.terraform.destroying import guards
from cipipe.stages.terraform.destroying.going import Going


def going(type: str, **attributes: Any) -> Going:
    return Going(address=f"{type}.it", type=type, attributes=attributes)


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (going("aws_db_instance", deletion_protection=True), "destroy-deletion-protection"),
        (going("aws_db_instance", deletion_protection=False), None),
        (
            going("aws_cognito_user_pool", deletion_protection="ACTIVE"),
            "destroy-deletion-protection",
        ),
        (going("aws_cognito_user_pool", deletion_protection="INACTIVE"), None),
        (going("aws_lb", enable_deletion_protection=True), "destroy-deletion-protection"),
        (going("aws_redshift_cluster", skip_final_snapshot=False), "destroy-snapshot-unnamed"),
        (going("aws_redshift_cluster", skip_final_snapshot=True), None),
        (
            going("aws_rds_cluster", skip_final_snapshot=False, final_snapshot_identifier="last"),
            None,
        ),
        (going("aws_s3_bucket", deletion_protection=True), None),
    ],
)
def test_what_aws_would_refuse_blocks(resource: Going, expected: str | None) -> None:
    assert [found.id for found in guards.blockers([resource])] == [expected] * bool(expected)


@pytest.mark.parametrize(
    ("resource", "expected", "words"),
    [
        (
            going("aws_secretsmanager_secret", name="s", recovery_window_in_days=7),
            "destroy-recovery-window",
            "7 days",
        ),
        (
            going("aws_secretsmanager_secret", name="s", recovery_window_in_days=None),
            "destroy-recovery-window",
            "30 days",
        ),
        (going("aws_secretsmanager_secret", name="s", recovery_window_in_days=0), None, ""),
        (going("aws_kms_key", deletion_window_in_days=10), "destroy-key-window", "10 days"),
        (
            going("aws_db_instance", skip_final_snapshot=False, final_snapshot_identifier="last"),
            "destroy-snapshot-stays",
            "last",
        ),
        (going("aws_mwaa_environment"), "destroy-mwaa-database", "DAG runs"),
        (going("aws_s3_bucket", object_lock_enabled=True), "destroy-object-lock", "locked"),
        (going("aws_s3_bucket"), None, ""),
    ],
)
def test_what_stays_is_a_warning(resource: Going, expected: str | None, words: str) -> None:
    found = list(guards.warnings([resource]))
    assert [one.id for one in found] == [expected] * bool(expected)
    assert all(words in one.message for one in found)


@pytest.mark.parametrize(
    ("resource", "keeps"),
    [
        (going("aws_s3_bucket", bucket="states"), "the state of its own stack"),
        (going("aws_s3_bucket", bucket="ledger"), "the ledger"),
        (going("aws_dynamodb_table", name="locks"), "the lock"),
        (going("aws_s3_bucket", bucket="other"), None),
        (going("aws_dynamodb_table", name="states"), None),
        (going("aws_s3_object", bucket="states"), None),
    ],
)
def test_the_stores_of_the_stack_itself_block(resource: Going, keeps: str | None) -> None:
    found = list(
        guards.own_stores(
            [resource], state_bucket="states", lock_table="locks", ledger_bucket="ledger"
        )
    )
    assert [one.id for one in found] == ["destroy-own-state"] * bool(keeps)
    assert all(str(keeps) in one.message for one in found)


def test_the_block_that_takes_a_store_out_names_no_instance() -> None:
    one = Going(
        address='module.a["x.y"].aws_s3_bucket.it[0]',
        type="aws_s3_bucket",
        attributes={"bucket": "states"},
    )
    (found,) = guards.own_stores([one], state_bucket="states", lock_table="", ledger_bucket="")
    assert "from = module.a.aws_s3_bucket.it," in str(found.hint)


def test_secrets_of_attributes_are_in_no_text() -> None:
    assert "hunter2" not in repr(going("aws_db_instance", password="hunter2"))


def test_the_table_is_text_and_nothing_else() -> None:
    preflight = Preflight(
        lost=[
            Loss(sort="resource", name="aws_s3_bucket", count=2, protected=True),
            Loss(
                sort="object", name="s3://b\x1b[2J", count=1204, versions=5310, unowned=3, more=True
            ),
        ],
        warnings=[Problem("destroy-key-window", "first\nsecond", "a\nb", "Look.")],
    )
    stages = (
        StageReport(
            name="iac",
            kind="terraform",
            result=Result.SKIPPED,
            reason="forced",
            detail="",
            seconds=0.0,
            findings={"destroy": preflight.document},
        ),
    )
    report = Report(project="p", environment="dev", mode=Mode.DESTROY, commit="c", stages=stages)
    text = losses(report)
    assert "\x1b" not in text
    assert "> 1,204  5,310 versions, 3 of no stage" in text
    assert "hold data, or take long to rebuild" in text
    assert "! a\\nb: first\n    second (destroy-key-window)\n    Look.\n" in text
