"""Errors for state locks that Terraform did not get, from the texts of its backends.

The texts are those of Terraform 1.10 to 1.13: internal/backend/remote-state/*/client.go. Those of
S3 and DynamoDB were printed by Terraform 1.11.4.
"""

from datetime import UTC, datetime, timedelta

import pytest

from cipipe.errors import CipipeError
from cipipe.tools.terraform import locks as terraform_locks
from cipipe.tools.terraform.locks import LockContext, LockInfo

NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)
CONTEXT = LockContext(unlock="cipipe iac unlock --env live --stage net", where="infra", now=NOW)
ADVICE = """

Terraform acquires a state lock to protect the state from being written
by multiple users at the same time. Please resolve the issue above and try
again. For most commands, you can disable locking with the "-lock=false"
flag, but this is not recommended."""
INFO = """
Lock Info:
  ID:        0c9a7e52-8f4e-4a5c-b1a8-8b0f6d0a2a11
  Path:      states/net.tfstate
  Operation: OperationTypePlan
  Who:       runner@job-81
  Version:   1.11.4
  Created:   2026-03-04 12:25:10.123456789 +0000 UTC
  Info:      

"""  # noqa: W291 - as Terraform prints it
S3 = (
    "operation error S3: {}, https response error StatusCode: {}, RequestID: 7R, HostID: q+/=, "
    "api error {}"
)
PRECONDITION = S3.format(
    "PutObject",
    412,
    "PreconditionFailed: At least one of the pre-conditions you specified did not hold",
)
DENIED = S3.format(
    "PutObject",
    403,
    (
        "AccessDenied: User: arn:aws:sts::1:assumed-role/d/s is not authorized to perform: "
        "s3:PutObject"
    ),
)
UNREADABLE = "unable to retrieve file from S3 bucket 'states' with key 'net.tfstate.tflock': "
GONE = UNREADABLE + (
    "operation error S3: GetObject, https response error StatusCode: 404, RequestID: 9, "
    "HostID: x, NoSuchKey: "
)
NOT_READABLE = UNREADABLE + S3.format("GetObject", 403, "AccessDenied: Access Denied")
NO_TABLE = (
    "operation error DynamoDB: {}, https response error StatusCode: 400, RequestID: K3, "
    "ResourceNotFoundException: Requested resource not found"
)
NO_TABLE_TWICE = (
    NO_TABLE.format("PutItem")
    + '\nUnable to retrieve item from DynamoDB table "locks": '
    + NO_TABLE.format("GetItem")
)
CONDITION = (
    "operation error DynamoDB: PutItem, https response error StatusCode: 400, RequestID: K3, "
    "ConditionalCheckFailedException: The conditional request failed"
)
NETWORK = (
    "operation error S3: PutObject, exceeded maximum number of attempts, 5, https response "
    "error StatusCode: 0, RequestID: "
    ", HostID: , request send failed, Put "
    '"https://states.s3.eu-west-1.amazonaws.com/net.tfstate.tflock": dial tcp: '
    "lookup states.s3.eu-west-1.amazonaws.com: no such host"
)
DYNAMO_DENIED = (
    "operation error DynamoDB: PutItem, https response error StatusCode: 400, RequestID: K3, "
    "api error AccessDeniedException: "
    "User: arn:aws:sts::1:assumed-role/d/s is not authorized to perform: dynamodb:PutItem on "
    "resource: table/locks"
)
GCS = 'writing "gs://states/net/default.tflock" failed: googleapi: Error {}'
GCS_HELD = GCS.format(
    "412: At least one of the pre-conditions you specified did not hold., conditionNotMet"
)
GCS_DENIED = GCS.format(
    "403: ci@p.iam.gserviceaccount.com does not have storage.objects.create access to the "
    "object., forbidden"
)
AZURE_DENIED = (
    "executing request: unexpected status 403 (403 This request is not authorized to perform "
    "this operation using this "
    "permission.) with AuthorizationPermissionMismatch: This request is not authorized"
)
KUBERNETES_DENIED = (
    'leases.coordination.k8s.io is forbidden: User "system:ci" cannot create resource "leases" '
    'in the namespace "tf"'
)
AZURE_LEASED = (
    "executing request: unexpected status 409 (409 There is already a lease present.) with "
    "LeaseAlreadyPresent: There is already a lease present."
)
HTTP_HELD = "HTTP remote state already locked: ID=0c9a7e52-8f4e-4a5c-b1a8-8b0f6d0a2a11"
HTTP_DOWN = (
    "Failed to lock: POST https://git.example.com/api/v4/projects/4/terraform/state/net/lock "
    "giving up after 3 attempt(s): Post "
    '"https://git.example.com/api/v4/projects/4/terraform/state/net/lock": dial tcp '
    "10.0.0.9:443: connect: connection refused"
)


def made(text: str, context: LockContext = CONTEXT) -> CipipeError:
    return terraform_locks.error(f"Error message: {text}{ADVICE}", context)


@pytest.mark.parametrize(
    "text",
    [
        PRECONDITION + INFO,
        CONDITION + INFO,
        PRECONDITION + "\n" + CONDITION + INFO,
        GCS_HELD + INFO,
        "state blob is already locked" + INFO,
        HTTP_HELD + INFO,
        INFO,  # consul has nothing to add
    ],
)
def test_a_locked_state(text: str) -> None:
    error = made(text)
    assert (error.id, error.exit_status) == ("terraform-locked", 6)
    assert error.message == (
        "the Terraform state is locked by runner@job-81 since 2026-03-04 12:25:10 UTC, 3 hours ago "
        "(OperationTypePlan, lock ID 0c9a7e52-8f4e-4a5c-b1a8-8b0f6d0a2a11, states/net.tfstate)"
    )
    assert str(error.hint).endswith(
        "by hand: cipipe iac unlock --env live --stage net 0c9a7e52-8f4e-4a5c-b1a8-8b0f6d0a2a11"
    )


@pytest.mark.parametrize(
    ("text", "id", "status"),
    [
        (DENIED, "terraform-lock-denied", 4),
        (DENIED + "\n" + GONE, "terraform-lock-denied", 4),
        (DYNAMO_DENIED, "terraform-lock-denied", 4),
        (GCS_DENIED + "\nstorage: object doesn't exist", "terraform-lock-denied", 4),
        (AZURE_DENIED, "terraform-lock-denied", 4),
        ("HTTP remote state endpoint requires auth", "terraform-lock-denied", 4),
        ("HTTP remote state endpoint invalid auth", "terraform-lock-denied", 4),
        (KUBERNETES_DENIED, "terraform-lock-denied", 4),
        (NO_TABLE_TWICE, "terraform-lock-no-table", 4),
        (NETWORK, "terraform-lock-unreachable", 4),
        (HTTP_DOWN, "terraform-lock-unreachable", 4),
        (PRECONDITION + "\n" + GONE, "terraform-lock-taken", 6),
        (PRECONDITION + "\n" + NOT_READABLE, "terraform-lock-taken", 6),
        (GCS_HELD + "\nstorage: object doesn't exist", "terraform-lock-taken", 6),
        (CONDITION + "\nunexpected end of JSON input", "terraform-lock-taken", 6),
        (AZURE_LEASED + '\nblob metadata "terraformlockid" was empty', "terraform-lock-taken", 6),
        ("HTTP remote state already locked, failed to unmarshal body", "terraform-lock-taken", 6),
        ('workspace already locked (lock ID: "acme/net")', "terraform-lock-taken", 6),
        ("Unexpected HTTP response code 500", "terraform-lock-failed", 4),
        ("a backend of next year says something else", "terraform-lock-failed", 4),
    ],
)
def test_other_reasons_why_a_lock_was_refused(text: str, id: str, status: int) -> None:
    error = made(text)
    assert (error.id, error.exit_status) == (id, status)
    assert " ".join(text.split()) in error.message, "Terraform's own message is kept"
    assert "iac unlock" not in str(error.hint)
    assert "LOCK_ID" not in str(error.hint)


def test_a_denied_write_is_a_denial_even_if_there_is_a_lock() -> None:
    error = made(DENIED + INFO)
    assert error.id == "terraform-lock-denied"
    assert (
        "there is a lock of runner@job-81 (ID 0c9a7e52-8f4e-4a5c-b1a8-8b0f6d0a2a11)"
        in error.message
    )


@pytest.mark.parametrize(
    "text", ["Workspace is already locked: default", "Already locked for workspace creation: x"]
)
def test_postgres_reports_the_info_of_our_own_attempt(text: str) -> None:
    error = made(
        text + INFO, LockContext(unlock="cipipe iac unlock", where="infra", now=NOW, own_info=True)
    )
    assert (error.id, error.exit_status) == ("terraform-lock-taken", 6)
    assert "runner@job-81" not in error.message


def test_an_unreachable_postgres_is_not_locked() -> None:
    text = "dial tcp 10.0.0.5:5432: connect: connection refused" + INFO
    error = made(
        text, LockContext(unlock="cipipe iac unlock", where="infra", now=NOW, own_info=True)
    )
    assert error.id == "terraform-lock-unreachable"


HTTP = LockContext(unlock="cipipe iac unlock --env dev", where="infra", now=NOW, own_info=True)
HELD_ID = "5b1f0d3e-2222-4c4c-9999-0123456789ab"


def test_an_http_store_reports_only_the_id() -> None:
    """Up to Terraform 1.14 the info beside it is that of the attempt."""
    error = made(f"HTTP remote state already locked: ID={HELD_ID}{INFO}", HTTP)
    assert (error.id, error.exit_status) == ("terraform-locked", 6)
    assert error.message == f"the Terraform state is locked by somebody (lock ID {HELD_ID})"
    assert str(error.hint).endswith(f"cipipe iac unlock --env dev {HELD_ID}")


def test_an_http_store_with_full_lock_info() -> None:
    assert "runner@job-81" in made(HTTP_HELD + INFO, HTTP).message


@pytest.mark.parametrize("what", ["read", "unmarshal"])
def test_an_http_store_that_does_not_say_who(what: str) -> None:
    error = made(f"HTTP remote state already locked, failed to {what} body{INFO}", HTTP)
    assert (error.id, error.exit_status) == ("terraform-lock-taken", 6)


def test_info_without_an_id_is_ignored() -> None:
    assert terraform_locks.info(INFO.replace("0c9a7e52-8f4e-4a5c-b1a8-8b0f6d0a2a11", "")) is None
    assert (
        made(PRECONDITION + INFO.replace("0c9a7e52-8f4e-4a5c-b1a8-8b0f6d0a2a11", "")).id
        == "terraform-lock-taken"
    )


def test_text_in_the_lock_info_is_not_a_cause() -> None:
    """Whoever locks says who they are: nothing in it makes a lock that is held something else."""
    assert (
        made(PRECONDITION + INFO.replace("runner@job-81", "AccessDenied@host")).id
        == "terraform-locked"
    )


@pytest.mark.parametrize(
    ("created", "read"),
    [
        ("2026-01-31 12:00:00 +0000 UTC", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 12:00:00.5 +0530 IST", datetime(2026, 1, 31, 6, 30, tzinfo=UTC)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("0001-01-01 00:00:00 +0000 UTC", None),
        ("yesterday", None),
        ("2026-13-31 12:00:00 +0000 UTC", None),
    ],
)
def test_the_time_of_a_lock(created: str, read: datetime | None) -> None:
    found = terraform_locks.info(INFO.replace("2026-03-04 12:25:10.123456789 +0000 UTC", created))
    assert found is not None
    assert found.created == read


@pytest.mark.parametrize(
    ("passed", "told"),
    [
        (timedelta(seconds=-30), "less than a minute ago"),
        (timedelta(seconds=59), "less than a minute ago"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(minutes=119), "1 hour ago"),
        (timedelta(hours=47), "1 day ago"),
        (timedelta(days=30), "30 days ago"),
    ],
)
def test_the_age_of_a_lock(passed: timedelta, told: str) -> None:
    assert terraform_locks.age(NOW - passed, NOW) == told


@pytest.mark.parametrize(
    ("id", "pasted"), [("a b;c", "'a b;c'"), ("-rf", "-- -rf"), ("$(id)", "'$(id)'")]
)
def test_an_id_is_quoted_for_the_shell(id: str, pasted: str) -> None:
    error = made(PRECONDITION + INFO.replace("0c9a7e52-8f4e-4a5c-b1a8-8b0f6d0a2a11", id))
    assert str(error.hint).endswith(f"--stage net {pasted}")


def test_an_unknown_lock_id_names_the_actual_lock() -> None:
    other = terraform_locks.unknown("11", LockInfo(id="22", who="a@b"), CONTEXT)
    assert (other.id, other.exit_status) == ("terraform-lock-unknown", 4)
    assert "a@b" in other.message
    assert str(other.hint).endswith("--stage net 22")
    assert terraform_locks.unknown("11", None, CONTEXT).message.endswith("nothing was released")
