"""Tokens that AWS accepts and that are not what the job's variables say: nothing deploys or
destroys with them.

The role `open` trusts every subject of the project, as a policy does that was written before
anybody thought of forks, and as all there is to write for a GitLab server of one's own.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cipipe.sandbox import Sandbox
from cipipe.tools.aws.clients import Aws
from support.jobs import (
    ACCOUNT,
    AUDIENCES,
    CONFIG,
    ISSUERS,
    REGION,
    Done,
    Job,
    github,
    gitlab,
    role,
    sandbox_with_roles,
)

OPEN = CONFIG.replace(":role/deploy", ":role/open")
UNPROTECTED = f"""{OPEN}
[oidc]
gitlab = {{ project = "group/shop", protected_refs = false }}
"""
MERGE_REQUEST = {"event": "merge-request"}
CHILD = {
    "event": "merge-request",
    "claims": {"pipeline_source": "parent_pipeline", "ref_path": "refs/heads/main"},
}
VARIABLES = {
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_MERGE_REQUEST_IID": "7",
    "CI_MERGE_REQUEST_PROJECT_PATH": "group/shop",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "stranger/shop",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandbox")


@pytest.fixture(scope="module")
def sandbox(folder: Path) -> Iterator[Sandbox]:
    with sandbox_with_roles(folder) as found:
        admin = Aws(found.endpoint(REGION), found.admin)
        role(admin, "open", [_every_subject(flavour) for flavour in ISSUERS])
        admin.call(
            "s3",
            "create_bucket",
            Bucket=f"cipipe-{ACCOUNT}-{REGION}",
            CreateBucketConfiguration={"LocationConstraint": REGION},
        )
        yield found


def _every_subject(flavour: str) -> dict[str, Any]:
    host = ISSUERS[flavour].removeprefix("https://")
    prefix = {"gitlab": "project_path", "github": "repo"}[flavour]
    return {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {f"{host}:aud": AUDIENCES[flavour]},
            "StringLike": {f"{host}:sub": f"{prefix}:*"},
        },
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "repo"


def deploys(job: Job, **env: str) -> list[Done]:
    """What would change the environment."""
    return [
        job.cipipe("run", "--env", "dev", **env),
        job.cipipe("destroy", "--env", "dev", "--confirm", "dev", **env),
    ]


@pytest.mark.parametrize("source", ["push", "schedule", "web", "api", "trigger", "parent_pipeline"])
def test_a_job_of_the_branch_deploys(sandbox: Sandbox, root: Path, source: str) -> None:
    job = gitlab(root, sandbox, claims={"pipeline_source": source})
    done = job.cipipe(
        "run", "--env", "dev", CI_PIPELINE_SOURCE=source, CI_PROJECT_PATH="group/shop"
    )
    assert done.status == 0, done.err


@pytest.mark.parametrize("claims", [MERGE_REQUEST, CHILD])
def test_a_role_that_asks_for_a_protected_ref_denies_a_merge_request(
    sandbox: Sandbox, root: Path, claims: dict[str, Any]
) -> None:
    job = gitlab(root, sandbox, **claims)
    assert {(done.status, done.id) for done in deploys(job)} == {(3, "oidc-access-denied")}


@pytest.mark.parametrize(
    ("claims", "id"),
    [
        (MERGE_REQUEST, "token-merge-request"),
        ({**MERGE_REQUEST, "claims": {"ref_protected": "true"}}, "token-merge-request"),
        ({"claims": {"pipeline_source": "external_pull_request_event"}}, "token-merge-request"),
        (CHILD, "token-unprotected-ref"),
        ({"claims": {"ref_protected": "false"}}, "token-unprotected-ref"),
        ({"ref": "side"}, "token-other-ref"),
        ({"ref_type": "tag"}, "token-other-ref"),
        ({"project": "stranger/shop"}, "token-other-project"),
    ],
)
def test_variables_of_a_push_do_not_outweigh_the_token(
    sandbox: Sandbox, root: Path, claims: dict[str, Any], id: str
) -> None:
    job = gitlab(root, sandbox, OPEN, **claims)
    for done in deploys(job, CI_PROJECT_PATH="group/shop"):
        assert (done.status, done.id) == (5, id), done.err


def test_a_dry_run_of_a_destroy_gets_the_role_that_reads(sandbox: Sandbox, root: Path) -> None:
    job = gitlab(root, sandbox, ref="side")
    before = len(sandbox.exchanges())
    for options in ((), ("--empty",)):
        done = job.cipipe("destroy", "--env", "dev", "--dry-run", *options)
        assert done.status == 0, done.err
    roles = {exchange["role"].rpartition("/")[2] for exchange in sandbox.exchanges()[before:]}
    assert roles == {"verify"}, "whatever the ref"


def test_nobody_gets_the_credentials_of_such_a_token(sandbox: Sandbox, root: Path) -> None:
    done = gitlab(root, sandbox, OPEN, **MERGE_REQUEST).cipipe(
        "oidc", "credential-process", "--env", "dev"
    )
    assert (done.status, done.id, done.out) == (5, "token-merge-request", "")


def test_the_safeguard_of_protected_refs_can_be_turned_off(sandbox: Sandbox, root: Path) -> None:
    job = gitlab(root, sandbox, UNPROTECTED, claims={"ref_protected": "false"})
    done = job.cipipe("oidc", "credential-process", "--env", "dev")
    assert done.status == 0, done.err
    request = gitlab(root.with_name("other"), sandbox, UNPROTECTED, **MERGE_REQUEST)
    assert request.cipipe("oidc", "credential-process", "--env", "dev").id == "token-merge-request"


@pytest.mark.parametrize("claims", [{}, MERGE_REQUEST])
def test_a_merge_requests_job_changes_nothing(
    sandbox: Sandbox, root: Path, claims: dict[str, Any]
) -> None:
    """Whatever its token says: with that of a push, too."""
    job = gitlab(root, sandbox, OPEN, **claims)
    refused = job.cipipe("destroy", "--env", "dev", "--confirm", "dev", **VARIABLES)
    assert (refused.status, refused.id) == (5, "merge-request-read-only")
    before = len(sandbox.exchanges())
    done = job.cipipe("run", "--env", "dev", **VARIABLES)
    assert done.status == 0, done.err
    assert {exchange["role"].rpartition("/")[2] for exchange in sandbox.exchanges()[before:]} == {
        "verify"
    }


def test_one_variable_of_a_merge_request_is_enough(sandbox: Sandbox, root: Path) -> None:
    job = gitlab(root, sandbox, OPEN)
    for name, value in VARIABLES.items():
        done = job.cipipe("destroy", "--env", "dev", "--confirm", "dev", **{name: value})
        assert (done.status, done.id) == (5, "merge-request-read-only"), name


def test_a_lock_is_released_from_refs_that_deploy_only(sandbox: Sandbox, root: Path) -> None:
    job = gitlab(root, sandbox, OPEN, ref="side")
    unlock = ("iac", "unlock", "0d2c6c31", "--env", "dev")
    done = job.cipipe(*unlock, CI_COMMIT_REF_NAME="side")
    assert (done.status, done.id) == (5, "ref-not-allowed")
    done = job.cipipe(*unlock, **VARIABLES)
    assert (done.status, done.id) == (5, "merge-request-read-only")


def test_bootstrap_does_not_run_in_a_merge_request(sandbox: Sandbox, root: Path) -> None:
    """Not even with credentials that another step of the job got."""
    admin = {
        "AWS_ACCESS_KEY_ID": sandbox.admin.access_key_id,
        "AWS_SECRET_ACCESS_KEY": sandbox.admin.secret_access_key,
    }
    job = gitlab(root, sandbox, OPEN)
    for command in (("bootstrap",), ("iac", "unlock", "0d2c6c31", "--bootstrap")):
        done = job.cipipe(*command, "--env", "dev", **VARIABLES, **admin)
        assert (done.status, done.id) == (5, "merge-request-read-only")


def test_the_sandbox_of_its_own_is_bootstrapped(sandbox: Sandbox, root: Path, folder: Path) -> None:
    """As far as Terraform, which this job does not have."""
    job = gitlab(root, sandbox, OPEN)
    tools = root.with_name("bin")
    tools.mkdir()
    (tools / "git").symlink_to(shutil.which("git") or "")
    own = {"CIPIPE_SANDBOX_DIR": str(folder), "CIPIPE_SANDBOX_DOCKER": "off", "PATH": str(tools)}
    done = job.cipipe("bootstrap", "--sandbox", "--env", "dev", **VARIABLES, **own)
    assert (done.status, done.id) == (4, "tool-missing"), done.err


@pytest.mark.parametrize(
    ("claims", "id"),
    [
        (
            {"event_name": "pull_request_target", "base_ref": "main", "head_ref": "evil"},
            "token-merge-request",
        ),
        ({"event_name": "workflow_call", "head_ref": "evil"}, "token-merge-request"),
        (
            {"event_name": "merge_group", "ref": "refs/heads/gh-readonly-queue/main/pr-7-abc"},
            "token-merge-request",
        ),
        ({"event_name": "pull_request_review", "ref": "refs/pull/7/merge"}, "token-merge-request"),
        ({"event_name": "push", "sub": "repo:group/shop:pull_request"}, "token-merge-request"),
        ({"ref": "refs/tags/main", "ref_type": "tag"}, "token-other-ref"),
        ({"ref": "refs/heads/side"}, "token-other-ref"),
        ({"repository": "stranger/shop"}, "token-other-project"),
    ],
)
def test_the_same_at_github(sandbox: Sandbox, root: Path, claims: dict[str, Any], id: str) -> None:
    job = github(root, sandbox, OPEN, claims=claims)
    for done in deploys(job):
        assert (done.status, done.id) == (5, id), done.err


@pytest.mark.parametrize("event", ["push", "workflow_dispatch", ""])
def test_what_follows_another_run_says_so(sandbox: Sandbox, root: Path, event: str) -> None:
    job = github(root, sandbox, OPEN, claims={"event_name": "workflow_run"})
    for done in deploys(job, GITHUB_EVENT_NAME=event):
        assert (done.status, done.id) == (5, "token-merge-request"), done.err


def test_what_follows_a_push_deploys(sandbox: Sandbox, root: Path) -> None:
    payload = root.with_name("event.json")
    payload.write_text(
        '{"workflow_run": {"event": "push", "head_repository": {"full_name": "group/shop"}}}'
    )
    job = github(root, sandbox, OPEN, claims={"event_name": "workflow_run"})
    event = {"GITHUB_EVENT_NAME": "workflow_run", "GITHUB_EVENT_PATH": str(payload)}
    done = job.cipipe("run", "--env", "dev", **event)
    assert done.status == 0, done.err


@pytest.mark.parametrize("event", ["push", "workflow_dispatch", "schedule"])
def test_other_events_of_github_deploy(sandbox: Sandbox, root: Path, event: str) -> None:
    job = github(root, sandbox, OPEN, claims={"event_name": event, "ref_protected": "false"})
    done = job.cipipe(
        "oidc",
        "credential-process",
        "--env",
        "dev",
        GITHUB_EVENT_NAME=event,
        GITHUB_REF="refs/heads/main",
    )
    assert done.status == 0, done.err


def test_a_token_of_another_provider_is_not_the_jobs(sandbox: Sandbox, root: Path) -> None:
    job = gitlab(
        root,
        sandbox,
        OPEN.replace(
            "[stages.iac]", '[oidc]\ngitlab = { audience = "sts.amazonaws.com" }\n[stages.iac]'
        ),
    )
    token = sandbox.mint(
        project="group/shop",
        ref="main",
        ref_type="branch",
        audience="sts.amazonaws.com",
        flavour="github",
    )
    done = job.cipipe("oidc", "credential-process", "--env", "dev", AWS_ID_TOKEN=token)
    assert (done.status, done.id) == (5, "token-other-project")
