"""`cipipe doctor` in jobs where something is missing: the check that fails, its fix, the status."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cipipe.sandbox import Sandbox
from cipipe.tools.aws.clients import Aws
from support.jobs import CONFIG, Done, Job, github, gitlab, sandbox_with_roles, shell


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with sandbox_with_roles(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


def examined(job: Job, *arguments: str, **env: str) -> tuple[Done, dict[str, dict[str, Any]]]:
    done = job.cipipe("doctor", "--format", "json", *arguments, **env)
    document = json.loads(done.out)
    assert document["failed"] == (done.status != 0)
    return done, {check["name"]: check for check in document["checks"]}


def results(checks: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: check["result"] for name, check in checks.items()}


def test_a_good_job(sandbox: Sandbox, tmp_path: Path) -> None:
    done, checks = examined(gitlab(tmp_path / "repo", sandbox))
    assert (done.status, done.err) == (0, "")
    skipped = {name for name, result in results(checks).items() if result == "skipped"}
    assert skipped == {"terraform", "docker"}, "no stage needs them"
    assert {result for name, result in results(checks).items() if name not in skipped} == {"ok"}
    assert checks["token"]["detail"].endswith("project_path:group/shop:ref_type:branch:ref:main")
    assert "59 min" in checks["expiry"]["detail"] or "60 min" in checks["expiry"]["detail"]


def test_a_role_for_merge_requests_may_trust_every_branch(sandbox: Sandbox, tmp_path: Path) -> None:
    job = gitlab(tmp_path / "repo", sandbox, ref="feature")
    done = job.cipipe(
        "doctor",
        "--format",
        "json",
        CI_PIPELINE_SOURCE="merge_request_event",
        CI_MERGE_REQUEST_IID="1",
    )
    policy = {check["name"]: check for check in json.loads(done.out)["checks"]}["policy"]
    assert policy["result"] == "ok", policy
    assert policy["detail"].endswith("ref:feature")


def test_one_line_for_each_check(sandbox: Sandbox, tmp_path: Path) -> None:
    job = gitlab(tmp_path / "repo", sandbox, audience="https://example.com")
    done = job.cipipe("doctor", "--no-color")
    lines = done.out.splitlines()
    assert [line.split()[1] for line in lines] == [
        *("git", "terraform", "docker", "config", "region", "role"),
        *("token", "audience", "expiry", "credentials", "policy"),
    ]
    (failed,) = (line for line in lines if line.split()[1] == "audience")
    assert failed.startswith("✗ audience")
    assert "; fix: Request the token for that audience" in failed
    assert (done.status, done.err) == (3, "")


@pytest.mark.parametrize(
    ("claims", "name", "id"),
    [
        ({"ttl": -600}, "expiry", "oidc-token-expired"),
        ({"claims": {"nbf": 99999999999}}, "expiry", "oidc-token-not-yet-valid"),
        ({"audience": "https://example.com"}, "audience", "oidc-audience-mismatch"),
        ({"alg": "none"}, "token", "oidc-token-unsigned"),
        ({"claims": {"exp": None}}, "token", "oidc-token-malformed"),
        ({"claims": {"exp": "late"}}, "token", "oidc-token-malformed"),
        ({"project": "group/fork"}, "credentials", "oidc-access-denied"),
        ({"key": "other"}, "credentials", "oidc-signature"),
    ],
)
def test_what_is_wrong_with_a_token(
    sandbox: Sandbox, tmp_path: Path, claims: dict[str, Any], name: str, id: str
) -> None:
    job = gitlab(tmp_path / "repo", sandbox, **claims)
    done, checks = examined(job)
    first = next(check for check in checks.values() if check["result"] == "failed")
    assert (first["name"], first["id"], done.status) == (name, id, 3)
    assert first["fix"]
    assert not any(
        part in done.out + done.err for part in job.env["AWS_ID_TOKEN"].split(".") if part
    )


@pytest.mark.parametrize(
    ("claims", "named", "result"),
    [
        ({}, None, "ok"),
        ({}, "live", "warning"),
        ({"environment": "test"}, "live", "warning"),
        ({"environment": "live"}, "live", "ok"),
    ],
)
def test_the_environment_that_a_job_should_name(
    sandbox: Sandbox, tmp_path: Path, claims: dict[str, Any], named: str | None, result: str
) -> None:
    line = f'job_environment = "{named}"\ndeploy_from' if named else "deploy_from"
    config = CONFIG.replace("deploy_from", line, 1)
    _, checks = examined(github(tmp_path / "repo", sandbox, config, **claims))
    assert checks["token"]["result"] == result, checks["token"]
    if result == "warning":
        assert "environment: live" in checks["token"]["fix"]


def test_a_policy_that_lets_in_too_much_is_a_doubt(sandbox: Sandbox, tmp_path: Path) -> None:
    admin = Aws(sandbox.endpoint("eu-central-1"), sandbox.admin)
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": "arn:aws:iam::111111111111:oidc-provider/gitlab.com"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {"gitlab.com:aud": "https://gitlab.com"}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    admin.call("iam", "create_role", RoleName="open", AssumeRolePolicyDocument=policy)
    done, checks = examined(
        gitlab(tmp_path / "repo", sandbox, CONFIG.replace("role/deploy", "role/open"))
    )
    assert done.status == 0
    assert checks["policy"]["result"] == "warning"
    assert "gitlab.com:sub" in checks["policy"]["fix"]


def test_no_token(sandbox: Sandbox, tmp_path: Path) -> None:
    job = gitlab(tmp_path / "repo", sandbox)
    done, checks = examined(job, AWS_ID_TOKEN="")
    assert (done.status, checks["token"]["id"]) == (3, "oidc-no-token")
    assert "id_tokens" in checks["token"]["fix"]
    fork = {"CI_MERGE_REQUEST_IID": "1", "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "fork/shop"}
    done, checks = examined(job, AWS_ID_TOKEN="", **fork)
    assert (done.status, checks["token"]["id"]) == (3, "oidc-fork-cannot-mint")


def test_offline_asks_nobody(sandbox: Sandbox, tmp_path: Path) -> None:
    job = github(tmp_path / "repo", sandbox)
    nowhere = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "ACTIONS_ID_TOKEN_REQUEST_URL": "http://127.0.0.1:9",
    }
    done, checks = examined(job, "--offline", **nowhere)
    assert done.status == 0
    assert (
        results(checks)["token"]
        == results(checks)["credentials"]
        == results(checks)["policy"]
        == "skipped"
    )
    before = len(sandbox.exchanges())
    examined(job)
    assert len(sandbox.exchanges()) == before + 1


def test_a_ref_that_may_not_deploy_is_a_doubt(sandbox: Sandbox, tmp_path: Path) -> None:
    job = gitlab(tmp_path / "repo", sandbox, ref="feature")
    _, checks = examined(job, CI_COMMIT_REF_NAME="feature")
    assert (checks["role"]["result"], checks["role"]["fix"]) == (
        "warning",
        "name it in deploy_from of [environments.dev], if it should",
    )


def test_a_laptop(sandbox: Sandbox, tmp_path: Path) -> None:
    job = shell(tmp_path / "repo", sandbox)
    done, checks = examined(job)
    assert (done.status, checks["token"]["result"], checks["credentials"]["result"]) == (
        0,
        "skipped",
        "warning",
    )
    done, checks = examined(job, **sandbox.admin.environment())
    assert (done.status, checks["credentials"]["detail"]) == (
        0,
        "your own, of account 111111111111",
    )


@pytest.mark.parametrize("tool", ["terraform", "docker"])
def test_a_tool_that_a_stage_needs(sandbox: Sandbox, tmp_path: Path, tool: str) -> None:
    stage = {
        "terraform": (
            'kind = "terraform"\nroot = "t"\nbackend = { bucket = "b", key = "{environment}" }'
        ),
        "docker": 'kind = "image"\ncontext = "d"\nrepository = "r-{environment}"',
    }[tool]
    config = f'{CONFIG}\n[stages.tool]\npaths = ["t/**"]\n{stage}\n'
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").symlink_to("/usr/bin/git")
    old = tmp_path / "bin/terraform"
    job = gitlab(tmp_path / "repo", sandbox, config)
    env = {"PATH": str(tmp_path / "bin"), "DOCKER_HOST": f"unix://{tmp_path}/nothing.sock"}
    done, checks = examined(job, **env)
    assert (done.status, results(checks)[tool]) == (4, "failed")
    assert checks[tool]["fix"]
    if tool == "terraform":
        assert checks[tool]["id"] == "tool-missing"
        old.write_text('#!/bin/sh\necho \'{"terraform_version": "1.9.8"}\'\n')
        old.chmod(0o755)
        done, checks = examined(job, PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin")
        assert (done.status, checks[tool]["id"]) == (4, "tool-too-old")


def test_a_configuration_that_cannot_be_read_leaves_the_rest(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    job = gitlab(tmp_path / "repo", sandbox, CONFIG.replace("role_arn =", "role_anr ="))
    done, checks = examined(job)
    assert (done.status, checks["config"]["id"]) == (2, "config-invalid")
    assert "role_anr" in checks["config"]["detail"]
    assert results(checks)["git"] == "ok"
    assert {results(checks)[name] for name in ("region", "role", "token", "policy")} == {"skipped"}


def test_outside_of_a_repository(sandbox: Sandbox, tmp_path: Path) -> None:
    job = gitlab(tmp_path / "repo", sandbox)
    (tmp_path / "elsewhere").mkdir()
    done, checks = examined(
        Job(tmp_path / "elsewhere", {**job.env, "GIT_CEILING_DIRECTORIES": str(tmp_path)})
    )
    assert (done.status, checks["config"]["id"]) == (2, "git-no-repository")


def test_an_environment_that_there_is_not_leaves_the_rest(sandbox: Sandbox, tmp_path: Path) -> None:
    done, checks = examined(gitlab(tmp_path / "repo", sandbox), "--env", "nope")
    assert (done.status, checks["config"]["id"]) == (2, "environment-unknown")
    assert checks["git"]["result"] == "ok"
    assert checks["role"]["result"] == "skipped"


def test_the_policy_is_looked_at_with_the_session_name_of_the_run(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    admin = Aws(sandbox.endpoint("eu-central-1"), sandbox.admin)
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": "arn:aws:iam::111111111111:oidc-provider/gitlab.com"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {
                "gitlab.com:aud": "https://gitlab.com",
                "sts:RoleSessionName": "shop-dev-7",
            },
            "Bool": {"gitlab.com:ref_protected": "true"},
            "StringLike": {"gitlab.com:sub": "project_path:group/shop:ref_type:branch:ref:main"},
        },
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    admin.call("iam", "create_role", RoleName="named", AssumeRolePolicyDocument=policy)
    done, checks = examined(
        gitlab(tmp_path / "repo", sandbox, CONFIG.replace("role/deploy", "role/named"))
    )
    assert (done.status, checks["policy"]["result"]) == (0, "ok")
