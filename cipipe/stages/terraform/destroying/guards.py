"""What the attributes of resources say about deleting them: AWS would
refuse it, or something stays that is in the way later. Pure.

Attributes are those of Terraform's AWS provider.
https://registry.terraform.io/providers/hashicorp/aws/latest/docs
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from cipipe.errors import Problem
from cipipe.stages.terraform.destroying.going import BUCKET, Going

# The attribute with which AWS refuses to delete a resource.
_PROTECTION: Mapping[str, str] = {
    "aws_alb": "enable_deletion_protection",
    "aws_cognito_user_pool": "deletion_protection",
    "aws_db_instance": "deletion_protection",
    "aws_docdb_cluster": "deletion_protection",
    "aws_dynamodb_table": "deletion_protection_enabled",
    "aws_lb": "enable_deletion_protection",
    "aws_neptune_cluster": "deletion_protection",
    "aws_networkfirewall_firewall": "delete_protection",
    "aws_rds_cluster": "deletion_protection",
    "aws_rds_global_cluster": "deletion_protection",
}

# Databases that are deleted only with a last snapshot, or with the setting
# that none is wanted.
_SNAPSHOTS = {
    "aws_db_instance",
    "aws_docdb_cluster",
    "aws_neptune_cluster",
    "aws_rds_cluster",
    "aws_redshift_cluster",
}

_KEYS = {
    "aws_kms_external_key",
    "aws_kms_key",
    "aws_kms_replica_external_key",
    "aws_kms_replica_key",
}

# Days, where the provider was not given any.
_USUAL_WINDOW = 30

# The key of an instance, as in `aws_s3_bucket.it["a"]`.
_INSTANCE = re.compile(r'\[(?:\d+|"(?:[^"\\]|\\.)*")\]')


def blockers(going: Iterable[Going]) -> Iterator[Problem]:
    """What Terraform would fail with half way."""
    for one in going:
        protection = _PROTECTION.get(one.type)
        if protection and one.attributes.get(protection) in {True, "ACTIVE"}:
            yield Problem(
                id="destroy-deletion-protection",
                message=f"{protection} is set, with which AWS refuses to delete it",
                where=one.address,
                hint="Turn it off in the Terraform code, deploy that, and destroy then.",
            )
        if _wants_snapshot(one) and not one.text("final_snapshot_identifier"):
            yield Problem(
                id="destroy-snapshot-unnamed",
                message="it is deleted with a last snapshot only, and that has no name",
                where=one.address,
                hint="Set final_snapshot_identifier, or skip_final_snapshot = true if its data may "
                "go; deploy that, and destroy then.",
            )


def own_stores(
    going: Iterable[Going], *, state_bucket: str, lock_table: str, ledger_bucket: str
) -> Iterator[Problem]:
    """What the state, its lock or the ledger is kept in: a destroy would saw off its branch."""
    for one in going:
        keeps = ""
        if one.type == BUCKET and one.text("bucket") == state_bucket:
            keeps = "the state of its own stack"
        elif one.type == BUCKET and one.text("bucket") == ledger_bucket:
            keeps = "the ledger"
        elif one.type == "aws_dynamodb_table" and lock_table and one.text("name") == lock_table:
            keeps = "the lock of its own stack's state"
        if keeps:
            yield Problem(
                id="destroy-own-state",
                message=f"it keeps {keeps}, which has to outlive the destroy",
                where=one.address,
                hint="Take it out of the stack without deleting it: replace its block by `removed "
                f"{{ from = {_without_keys(one.address)}, lifecycle {{ destroy = false }} }}` "
                "(on separate lines), deploy that, and destroy then.",
            )


def warnings(going: Iterable[Going]) -> Iterator[Problem]:
    """What is in the way of a later deployment, or stays and costs."""
    for one in going:
        if one.type == "aws_secretsmanager_secret":
            days = one.number("recovery_window_in_days", _USUAL_WINDOW)
            if days > 0:
                yield Problem(
                    id="destroy-recovery-window",
                    message=f"its name {one.text('name')} stays taken for {days} days: until then, "
                    "a deployment that creates it again fails",
                    where=one.address,
                    hint="Set recovery_window_in_days = 0 and deploy that first, if nobody has to "
                    "restore the secret.",
                )
        elif one.type in _KEYS:
            days = one.number("deletion_window_in_days", _USUAL_WINDOW)
            yield Problem(
                id="destroy-key-window",
                message="what it encrypts outside of this stack cannot be read any more; "
                f"the key itself can be restored for {days} days",
                where=one.address,
                hint="Look for data, snapshots and backups elsewhere that it encrypts.",
            )
        elif _wants_snapshot(one) and one.text("final_snapshot_identifier"):
            yield Problem(
                id="destroy-snapshot-stays",
                message=f"its last snapshot {one.text('final_snapshot_identifier')} stays, and "
                "costs; the next destroy fails while a snapshot has that name",
                where=one.address,
                hint="Delete the snapshot once nobody needs it.",
            )
        elif one.type == "aws_mwaa_environment":
            yield Problem(
                id="destroy-mwaa-database",
                message="its database is lost: the history of DAG runs, variables and connections",
                where=one.address,
                hint="Export what has to stay from Airflow first.",
            )
        elif one.type == BUCKET and one.attributes.get("object_lock_enabled"):
            yield Problem(
                id="destroy-object-lock",
                message="Object Lock is on: locked versions cannot be deleted, nor the bucket",
                where=one.address,
                hint="Look for versions with a retention date or a legal hold.",
            )


def _wants_snapshot(one: Going) -> bool:
    return one.type in _SNAPSHOTS and one.attributes.get("skip_final_snapshot") is False


def _without_keys(address: str) -> str:
    return _INSTANCE.sub("", address)
