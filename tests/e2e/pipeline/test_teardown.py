"""`cipipe destroy`: refused without a confirmation; then all goes except what bootstrap made."""

from typing import Any

import pytest

from cipipe.sandbox.client import Sandbox
from support import statements
from support.clone import Aws, Clone, FirstRun, Outcome
from support.jobs import merge_request_job
from support.statements import Policies

STATE = "cipipe-111111111111-eu-central-1"

# Statements that only AWS itself needs, or what the project in a sandbox does not have.
ONLY_AWS = {
    "AskAirflow": "the sandbox has no MWAA",
    "MwaaNetwork": "MWAA makes its endpoints and interfaces itself, through AWS",
    "PrivateDns": "Route 53 is asked by the service that makes an interface endpoint",
    "ReadTrustPolicies": "in a sandbox, its administrator reads them",
    "SavedPlans": "the project approves no plans; test_approval_pipelines.py tries the statement",
    "ServiceLinkedRoles": "ECS and MWAA create them, once in an account",
    "Unsubscribe": "the project has no alarm_emails",
}
# Statements that settings add which the project does not have.
NOT_HERE = {"EncryptReviews": "the bucket has no KMS key"}


def test_without_confirmation_nothing_is_called(deployed: FirstRun, clone: Clone, aws: Aws) -> None:
    exchanges = len(aws.sandbox.exchanges())
    before = {key: aws.get(STATE, key) for key in aws.keys(STATE)}
    for arguments in ((), ("--confirm", "live")):
        refused = clone.cipipe(
            "destroy", "--sandbox", "--env", "dev", "--format", "json", *arguments
        )
        assert refused.status == 5, refused.text
        assert refused.document["error"]["id"] == "destroy-not-confirmed"
    assert len(aws.sandbox.exchanges()) == exchanges  # nobody even asked for credentials
    assert {key: aws.get(STATE, key) for key in aws.keys(STATE)} == before


def test_live_is_protected(deployed: FirstRun, clone: Clone) -> None:
    for arguments in ((), ("--allow-destroy",)):
        refused = clone.cipipe(
            "destroy",
            "--sandbox",
            "--env",
            "live",
            "--confirm",
            "live",
            "--format",
            "json",
            *arguments,
        )
        assert refused.status == 5, refused.text
        assert refused.document["error"]["id"] == "destroy-protected"


def test_foreign_objects_stop_it_before_anything_is_deleted(
    deployed: FirstRun, clone: Clone, aws: Aws
) -> None:
    bucket = aws.outputs()["dags_bucket"]
    aws.client("s3").put_object(Bucket=bucket, Key="reports/2026.csv", Body=b"a,b\n")
    refused = clone.cipipe("destroy", "--sandbox", "--env", "dev", "--confirm", "dev")
    assert refused.status == 5, refused.text
    assert "reports/2026.csv" in refused.err
    assert aws.keys(bucket, "dags/") != []
    versions = aws.client("s3").list_object_versions(Bucket=bucket, Prefix="reports/")["Versions"]
    for version in versions:
        aws.client("s3").delete_object(
            Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"]
        )


@pytest.fixture(scope="module")
def checked(deployed: FirstRun, clone: Clone, sandbox: Sandbox) -> Outcome:
    """What else a project does in its life; last, a merge request's job, with the verify role."""
    clone.commit("dags/dbt_ssm.py", "# rolled back\n")
    assert clone.run().status == 0
    commands = (("dags", "rollback"), ("image", "prune"), ("status",))
    for words in commands:
        done = clone.cipipe(*words, "--sandbox", "--env", "dev")
        assert done.status == 0, done.text
    # A review is recorded only if something changes.
    clone.commit("terraform/outputs.tf", '\noutput "shown" {\n  value = "not applied"\n}\n')
    done = clone.run(**merge_request_job(sandbox, "example/dbt-deployment"))
    assert done.status == 0, done.text
    return done


@pytest.fixture(scope="module")
def destroyed(deployed: FirstRun, checked: Outcome, clone: Clone, aws: Aws) -> Outcome:
    """Everything in dev destroyed. Tests that need it deployed have to come before."""
    lake = aws.outputs()["data_lake_bucket"]
    aws.client("s3").put_object(Bucket=lake, Key="raw/movies.csv", Body=b"a,b\n")
    return destroy_dev(clone, "--empty")


def test_it_takes_all_of_it_down(destroyed: Outcome, aws: Aws) -> None:
    assert destroyed.status == 0, destroyed.text
    assert destroyed.results() == {"dags": "done", "image": "done", "iac": "done"}
    s3 = aws.client("s3")
    iam = aws.client("iam")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [STATE]
    assert {role["RoleName"] for role in iam.list_roles()["Roles"]} == {
        "dbt-deployment-deploy",
        "dbt-deployment-verify",
    }
    assert aws.client("ecr").describe_repositories()["repositories"] == []
    assert aws.client("ecs").list_task_definitions(status="ACTIVE")["taskDefinitionArns"] == []
    assert (
        aws.client("ssm").describe_parameters(
            ParameterFilters=[
                {"Key": "Name", "Option": "BeginsWith", "Values": ["/dbt-deployment"]}
            ]
        )["Parameters"]
        == []
    )
    tagged = [{"Name": "tag:project", "Values": ["dbt-deployment"]}]
    assert aws.client("ec2").describe_vpcs(Filters=tagged)["Vpcs"] == []
    assert {aws.record(stage)["state"] for stage in ("dags", "image", "iac")} == {"destroyed"}


def test_again_succeeds(destroyed: Outcome, clone: Clone) -> None:
    done = destroy_dev(clone)
    assert done.status == 0, done.text
    assert set(done.results().values()) == {"unchanged"}


@pytest.fixture(scope="module")
def needed(destroyed: Outcome, sandbox: Sandbox) -> dict[str, list[dict[str, Any]]]:
    """The permissions that each role needed in a whole life of the project, and had."""
    found: dict[str, list[dict[str, Any]]] = {"deploy": [], "verify": []}
    for entry in sandbox.permissions():
        role = entry["role"].rpartition("/")[2].removeprefix("dbt-deployment-")
        if role in found and entry["refused"] is None:
            found[role].append(entry)
    return found


@pytest.mark.parametrize(("policy", "sid"), statements.written())
def test_no_statement_of_the_policies_can_be_taken_away(
    needed: dict[str, list[dict[str, Any]]], aws: Aws, policy: str, sid: str
) -> None:
    policies = Policies(aws.client("iam"))
    role = statements.ROLES.get(policy, "deploy")
    documents = {name: policies.document(name) for name in statements.of_role(role)}
    needs = [statements.need_of(entry) for entry in needed[role]]
    assert statements.refused(list(documents.values()), needs) == []

    if sid in NOT_HERE:
        assert sid not in [one["Sid"] for one in documents[policy]["Statement"]]
        return
    without = {**documents, policy: statements.without(documents[policy], sid)}

    missing = {need.action for need in statements.refused(list(without.values()), needs)}
    assert bool(missing) is (sid not in ONLY_AWS), missing


def test_a_check_of_a_merge_request_writes_its_review_only(
    needed: dict[str, list[dict[str, Any]]],
) -> None:
    places = {(entry["action"].partition(":")[2], entry["resource"]) for entry in needed["verify"]}
    reading = ("BatchCheck", "BatchGet", "Describe", "Get", "List")
    assert any(name.startswith(reading) for name, _ in places)
    written = {place for place in places if not place[0].startswith(reading)}
    assert {name for name, _ in written} == {"PutObject"}
    reviews = f"arn:aws:s3:::{STATE}/ledger/dbt-deployment/dev/reviews/"
    assert all(resource.startswith(reviews) for _, resource in written)


def test_the_same_commit_is_due_again(destroyed: Outcome, clone: Clone) -> None:
    plan = clone.plan()
    assert plan["iac"] == plan["image"] == plan["dags"] == ("due", "destroyed")


def destroy_dev(clone: Clone, *more: str) -> Outcome:
    return clone.cipipe(
        "destroy", "--sandbox", "--env", "dev", "--confirm", "dev", "--format", "json", *more
    )
