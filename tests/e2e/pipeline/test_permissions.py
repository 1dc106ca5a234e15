"""Runs with a statement of the roles' policies taken away: each fails, and says what is missing."""

import pytest

from cipipe.sandbox.aws.iam.evaluation import Need
from cipipe.sandbox.client import Sandbox
from support import athena_elt
from support.clone import Aws, Clone, FirstRun
from support.jobs import merge_request_job
from support.statements import NAME, Policies, refused


@pytest.fixture(scope="module")
def policies(deployed: FirstRun, aws: Aws) -> Policies:
    return Policies(aws.client("iam"))


def test_nothing_was_refused_until_now(first_run: FirstRun, sandbox: Sandbox) -> None:
    needed = sandbox.permissions()
    assert len({entry["action"] for entry in needed}) > 50
    assert {entry["role"].rpartition("/")[2] for entry in needed} >= {"dbt-deployment-deploy"}


@pytest.mark.parametrize(
    ("policy", "sid", "stage", "missing"),
    [
        ("deploy", "WriteStateAndLedger", "dags", "perform: s3:PutObject on resource"),
        ("deploy", "Dags", "dags", "perform: s3:PutObject on resource"),
        ("read", "ReadStack", "iac", "is not authorized to perform: "),
    ],
)
def test_a_run_without_a_statement_fails_and_names_the_action(
    policies: Policies, clone: Clone, policy: str, sid: str, stage: str, missing: str
) -> None:
    clone.commit("dags/dbt_ssm.py", f"# without {sid}\n")
    with policies.without(policy, sid):
        failed = clone.run(stage, "--force", stage)
    assert failed.status == 4, failed.text
    assert missing in failed.document["error"]["message"] + failed.err
    assert clone.run(stage, "--force", stage).status == 0


def test_a_check_of_a_merge_request_without_a_statement_fails(
    policies: Policies, clone: Clone, sandbox: Sandbox
) -> None:
    job = merge_request_job(sandbox, "example/dbt-deployment")
    with policies.without("read", "ReadStateAndLedger"):
        failed = clone.run(**job)
    assert failed.status == 4, failed.text
    assert "s3:GetObject" in failed.document["error"]["message"]


def test_the_boundary_lets_airflow_do_what_its_dag_needs(policies: Policies) -> None:
    needs = [
        Need(action=action, resource=resource)
        for action, resource in athena_elt.needed(NAME, "111111111111", "eu-central-1")
    ]
    assert refused([policies.document("boundary")], needs) == []
