"""`cipipe oidc explain --role` against a live role: what it says of a token is what STS does with
it.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cipipe import cli
from cipipe.sandbox import Sandbox, SandboxOptions, attached
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.errors import AwsError
from cipipe.tools.aws.sts import RoleSession, assume_role_with_web_identity

ACCOUNT, REGION = "111111111111", "eu-central-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/deploy"
HOSTS = {"gitlab": "gitlab.com", "github": "token.actions.githubusercontent.com"}
AUDIENCES = {"gitlab": "https://gitlab.com", "github": "sts.amazonaws.com"}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("sandbox")
    with attached(
        SandboxOptions(directory=folder, account_id=ACCOUNT, docker=False),
        env=dict(os.environ),
        say=print,
    ) as running:
        admin = Aws(running.endpoint(REGION), running.admin_of(ACCOUNT))
        for flavour, host in HOSTS.items():
            ids = {"ClientIDList": [AUDIENCES[flavour]], "ThumbprintList": []}
            admin.call("iam", "create_open_id_connect_provider", Url=f"https://{host}", **ids)
        empty = json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*"}],
            }
        )
        admin.call("iam", "create_role", RoleName="deploy", AssumeRolePolicyDocument=empty)
        yield running


@pytest.fixture
def oidc(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As `eval "$(cipipe sandbox env)"` in an empty folder."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "CI", "GITLAB_", "GITHUB_", "ACTIONS_")):
            monkeypatch.delenv(name)
    admin = sandbox.admin_of(ACCOUNT)
    for name, value in {**sandbox.child_env(), **admin.environment(), "AWS_REGION": REGION}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


CASES: list[tuple[str, tuple[str, ...], dict[str, Any], str | None]] = [
    ("gitlab", ("--ref", "main"), {}, None),
    ("gitlab", ("--ref", "main"), {"ref": "side"}, "oidc-subject-mismatch"),
    (
        "gitlab",
        ("--ref", "main"),
        {"ref": "side", "event": "merge-request"},
        "oidc-subject-pull-request",
    ),
    ("gitlab", ("--ref", "main"), {"project": "mallory/dbt"}, "oidc-subject-mismatch"),
    ("gitlab", ("--ref", "main", "--protected"), {"event": "merge-request"}, "oidc-claim-mismatch"),
    ("gitlab", ("--ref", "main"), {"event": "merge-request"}, "oidc-claim-mismatch"),
    ("gitlab", ("--ref", "main"), {"event": "external_pull_request_event"}, "oidc-claim-mismatch"),
    (
        "gitlab",
        ("--ref", "main"),
        {"event": "parent_pipeline", "claims": {"ref_protected": "false"}},
        "oidc-claim-mismatch",
    ),
    ("gitlab", ("--ref", "main"), {"event": "parent_pipeline"}, None),
    ("gitlab", ("--ref", "main"), {"event": "schedule"}, None),
    ("gitlab", ("--ref", "main"), {"event": "manual"}, None),
    ("gitlab", ("--ref", "main", "--no-protected"), {"event": "merge-request"}, None),
    ("gitlab", ("--ref", "refs/tags/v*"), {"ref": "v1", "ref_type": "tag"}, None),
    ("gitlab", ("--ref", "main"), {"audience": "https://example.com"}, "oidc-audience-mismatch"),
    ("github", ("--ref", "main"), {}, None),
    ("github", ("--ref", "main"), {"event": "merge-request"}, "oidc-subject-pull-request"),
    ("github", ("--ref", "main"), {"event": "pull_request_target"}, None),
    ("github", ("--ref", "main"), {"ref_type": "tag"}, "oidc-subject-tag"),
    ("github", ("--ref", "main"), {"environment": "live"}, "oidc-subject-environment"),
    (
        "github",
        ("--environment", "live", "--environment-ref", "main"),
        {"environment": "live", "event": "merge-request"},
        "oidc-claim-mismatch",
    ),
    (
        "github",
        ("--environment", "live", "--environment-ref", "main"),
        {"environment": "live"},
        None,
    ),
    ("github", ("--environment", "li:ve"), {"environment": "li:ve"}, None),
    (
        "github",
        ("--ref", "main"),
        {"claims": {"sub": "repo:acme@1/dbt@2:ref:refs/heads/main"}},
        "oidc-subject-immutable",
    ),
    ("github", ("--ref", "main"), {"ttl": -120}, "oidc-token-expired"),
    (
        "github",
        ("--ref", "main"),
        {"claims": {"https://aws.amazon.com/tags": {"principal_tags": {"a": ["b"]}}}},
        "oidc-tagsession-missing",
    ),
]


@pytest.mark.parametrize(("flavour", "wanted", "changes", "id"), CASES)
def test_explains_what_sts_does(
    sandbox: Sandbox,
    oidc: None,
    capsys: pytest.CaptureFixture[str],
    flavour: str,
    wanted: tuple[str, ...],
    changes: dict[str, Any],
    id: str | None,
) -> None:
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{HOSTS[flavour]}"
    made = ["--provider", flavour, "--project", "acme/dbt", "--provider-arn", provider, *wanted]
    assert cli.main(["oidc", "trust-policy", *made]) == 0
    admin = Aws(sandbox.endpoint(REGION), sandbox.admin_of(ACCOUNT))
    policy = capsys.readouterr().out
    admin.call("iam", "update_assume_role_policy", RoleName="deploy", PolicyDocument=policy)
    asked = {
        "project": "acme/dbt",
        "ref": "main",
        "ref_type": "branch",
        "audience": AUDIENCES[flavour],
    }
    token = sandbox.mint(flavour=flavour, **{**asked, **changes})
    Path("token").write_text(token)
    status = cli.main(
        ["oidc", "explain", "--role", "deploy", "--token-file", "token", "--format", "json"]
    )
    answer = json.loads(capsys.readouterr().out)
    errors = [finding["id"] for finding in answer["findings"] if finding["severity"] == "error"]
    refusal = refused(sandbox, token)
    assert (refusal is None) == (id is None), refusal
    if id is None:
        assert (status, answer["verdict"], errors) == (0, "allowed", [])
    else:
        assert (status, answer["verdict"], errors[0]) == (3, "denied", id)


def refused(sandbox: Sandbox, token: str) -> str | None:
    """AWS's words for not taking the token; None where it does."""
    endpoint = sandbox.endpoint(REGION)
    try:
        assume_role_with_web_identity(
            endpoint, RoleSession(role_arn=ROLE, session_name="test", duration=900), token=token
        )
    except AwsError as error:
        return error.text
    return None
