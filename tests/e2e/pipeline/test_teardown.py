"""`cipipe destroy`: refused without a confirmation; then all goes except what bootstrap made."""

import pytest

from support.clone import Aws, Clone, FirstRun, Outcome

STATE = "cipipe-111111111111-eu-central-1"


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
def destroyed(deployed: FirstRun, clone: Clone) -> Outcome:
    """Everything in dev destroyed. Tests that need it deployed have to come before."""
    return destroy_dev(clone)


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


def test_the_same_commit_is_due_again(destroyed: Outcome, clone: Clone) -> None:
    plan = clone.plan()
    assert plan["iac"] == plan["image"] == plan["dags"] == ("due", "destroyed")


def destroy_dev(clone: Clone) -> Outcome:
    return clone.cipipe(
        "destroy", "--sandbox", "--env", "dev", "--confirm", "dev", "--format", "json"
    )
