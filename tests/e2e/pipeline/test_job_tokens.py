"""Tokens that AWS would refuse, in a job of a provider.

Each ends with exit status 3 and an error of its own, and no token is in any output.
"""

import pytest

from cipipe.sandbox.client import Sandbox
from support.clone import Clone, FirstRun
from support.jobs import github_variables


def _mint(sandbox: Sandbox, **more: object) -> str:
    claims: dict[str, object] = {
        "project": "example/dbt-deployment",
        "ref": "main",
        "ref_type": "branch",
        "audience": "https://gitlab.com",
    }
    return sandbox.mint(**{**claims, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ({"ttl": -60}, "oidc-token-expired"),
        ({"audience": "https://example.com"}, "oidc-audience-mismatch"),
        ({"key": "other"}, "oidc-signature"),
        ({"alg": "none"}, "oidc-token-unsigned"),
        ({"ref": "feature"}, "oidc-access-denied"),
    ],
)
def test_each_bad_token_is_refused_with_its_own_error(
    what: dict[str, object],
    error: str,
    deployed: FirstRun,
    clone: Clone,
    sandbox: Sandbox,
    gitlab_job: dict[str, str],
) -> None:
    token = _mint(sandbox, **what)
    done = clone.run(**gitlab_job, AWS_ID_TOKEN=token)
    assert done.status == 3, done.text
    assert done.document["error"]["id"] == error
    for part in (token, token.split(".")[1], token.split(".")[2]):
        assert not part or part not in done.text


def test_a_denial_names_the_failing_condition(
    deployed: FirstRun, clone: Clone, sandbox: Sandbox, gitlab_job: dict[str, str]
) -> None:
    done = clone.run(**gitlab_job, AWS_ID_TOKEN=_mint(sandbox, ref="feature"))
    message = done.document["error"]["message"]
    assert "Not authorized to perform sts:AssumeRoleWithWebIdentity" in message
    assert "project_path:example/dbt-deployment:ref_type:branch:ref:main" in message  # expected
    assert "project_path:example/dbt-deployment:ref_type:branch:ref:feature" in message  # actual


def test_a_job_without_a_token_says_how_to_get_one(
    deployed: FirstRun, clone: Clone, gitlab_job: dict[str, str]
) -> None:
    done = clone.cipipe("status", "--format", "json", **gitlab_job)
    assert done.status == 3, done.text
    assert done.document["error"]["id"] == "oidc-no-token"
    assert "id_tokens" in done.document["error"]["hint"]


def test_a_good_token_deploys(
    deployed: FirstRun, clone: Clone, sandbox: Sandbox, gitlab_job: dict[str, str]
) -> None:
    token = _mint(sandbox)
    done = clone.run(**gitlab_job, AWS_ID_TOKEN=token)
    assert done.status == 0, done.text
    assert token not in done.text


def test_another_branch_may_not_deploy_even_with_a_good_token(
    deployed: FirstRun, clone: Clone, sandbox: Sandbox, gitlab_job: dict[str, str]
) -> None:
    job = {**gitlab_job, "CI_COMMIT_REF_NAME": "feature", "CI_COMMIT_BRANCH": "feature"}
    done = clone.run(**job, AWS_ID_TOKEN=_mint(sandbox))
    assert done.status == 5, done.text
    assert done.document["error"]["id"] == "ref-not-allowed"


def test_dags_alone_are_refused_while_what_they_need_is_due(
    deployed: FirstRun, clone: Clone, sandbox: Sandbox, gitlab_job: dict[str, str]
) -> None:
    """As when an older pipeline's job for the DAGs comes after a newer one's for the
    infrastructure.
    """
    clone.commit("dbt/models/marts/emp_fact.sql", "\n-- by a newer pipeline\n")
    job = {**gitlab_job, "AWS_ID_TOKEN": _mint(sandbox), "AWS_ENDPOINT_URL": sandbox.state.aws_url}
    refused = clone.cipipe("run", "dags", "--env", "dev", "--format", "json", **job)
    assert refused.status == 5, refused.text
    assert refused.document["error"]["id"] == "needed-stage-due"
    assert clone.run().status == 0


def test_an_older_pipeline_is_refused(
    deployed: FirstRun, clone: Clone, sandbox: Sandbox, gitlab_job: dict[str, str]
) -> None:
    clone.commit("dags/dbt_snowflake_scd2.py", "# by pipeline 9\n")
    newer = {**gitlab_job, "CI_PIPELINE_IID": "9"}
    assert clone.run(**newer, AWS_ID_TOKEN=_mint(sandbox)).status == 0
    clone.commit("dags/dbt_snowflake_scd2.py", "# by pipeline 8\n")
    older = {**gitlab_job, "CI_PIPELINE_IID": "8"}
    refused = clone.run(**older, AWS_ID_TOKEN=_mint(sandbox))
    assert refused.status == 5, refused.text
    assert refused.document["error"]["id"] == "older-pipeline"
    assert clone.run("--allow-rollback", **older, AWS_ID_TOKEN=_mint(sandbox)).status == 0


def test_an_older_pipeline_puts_no_dags_on_top_of_what_a_newer_one_made(
    deployed: FirstRun, clone: Clone, sandbox: Sandbox, gitlab_job: dict[str, str]
) -> None:
    clone.commit("terraform/outputs.tf", "\n# by pipeline 19\n")
    newer = {**gitlab_job, "CI_PIPELINE_IID": "19"}
    assert clone.run(**newer, AWS_ID_TOKEN=_mint(sandbox)).results()["iac"] == "done"
    older = {**gitlab_job, "CI_PIPELINE_IID": "18"}
    refused = clone.run("dags", "--force", "dags", **older, AWS_ID_TOKEN=_mint(sandbox))
    assert refused.status == 5, refused.text
    assert refused.document["error"]["id"] == "older-pipeline"
    assert "stage iac" in refused.document["error"]["message"]


def test_a_github_job_mints_its_token_anew(clone: Clone, sandbox: Sandbox) -> None:
    job = {
        **github_variables(sandbox, "example/dbt-deployment"),
        "AWS_ENDPOINT_URL": sandbox.state.aws_url,
    }
    bearer = job["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
    before = len(sandbox.exchanges())
    done = clone.cipipe("status", "--env", "dev", "--format", "json", **job)
    assert done.status == 0, done.text
    made = sandbox.exchanges()[before:]
    assert [entry["issuer"] for entry in made] == ["https://token.actions.githubusercontent.com"]
    assert made[0]["sub"] == "repo:example/dbt-deployment:ref:refs/heads/main"
    assert bearer not in done.text.replace(f"::add-mask::{bearer}", "")


def test_doctor_finds_the_sandbox_well(deployed: FirstRun, clone: Clone) -> None:
    done = clone.cipipe("doctor", "--sandbox", "--env", "dev", "--format", "json")
    assert done.status == 0, done.text
    assert {check["name"]: check["result"] for check in done.document["checks"]} == {
        **dict.fromkeys(("git", "terraform", "docker", "config", "region", "role"), "ok"),
        **dict.fromkeys(("token", "audience", "expiry", "credentials", "policy"), "ok"),
    }


def test_doctor_explains_a_denial(
    deployed: FirstRun, clone: Clone, sandbox: Sandbox, gitlab_job: dict[str, str]
) -> None:
    token = _mint(sandbox, ref="feature")
    done = clone.cipipe(
        "doctor", "--sandbox", "--env", "dev", "--format", "json", **gitlab_job, AWS_ID_TOKEN=token
    )
    assert done.status == 3, done.text
    checks = {check["name"]: check for check in done.document["checks"]}
    assert checks["credentials"]["id"] == checks["policy"]["id"] == "oidc-access-denied"
    assert "ref:feature" in checks["policy"]["fix"]
