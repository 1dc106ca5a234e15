"""`cipipe oidc credential-process` as AWS's tools call it: credentials on standard output, or
nothing at all.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cipipe.sandbox import Sandbox
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from support.jobs import ACCOUNT, CONFIG, OTHER, REGION, github, gitlab, sandbox_with_roles, shell

COMMAND = ("oidc", "credential-process")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with sandbox_with_roles(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


def caller(sandbox: Sandbox, document: dict[str, Any]) -> str:
    """Whom AWS takes the bearer of these credentials for."""
    keys = Credentials(
        document["AccessKeyId"], document["SecretAccessKey"], document["SessionToken"]
    )
    return str(Aws(sandbox.endpoint(REGION), keys).call("sts", "get_caller_identity")["Arn"])


def test_prints_version_1_and_nothing_else(sandbox: Sandbox, tmp_path: Path) -> None:
    job = gitlab(tmp_path / "repo", sandbox)
    done = job.cipipe(*COMMAND)
    assert (done.status, done.err) == (0, "")
    document = json.loads(done.out)
    assert list(document) == [
        "Version",
        "AccessKeyId",
        "SecretAccessKey",
        "SessionToken",
        "Expiration",
    ]
    assert document["Version"] == 1
    assert done.out.count("\n") == 1
    left = datetime.strptime(document["Expiration"], "%Y-%m-%dT%H:%M:%SZ").replace(
        tzinfo=UTC
    ) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    assert caller(sandbox, document) == f"arn:aws:sts::{ACCOUNT}:assumed-role/deploy/shop-dev-7"


def test_takes_the_verify_role_in_a_merge_request(sandbox: Sandbox, tmp_path: Path) -> None:
    done = gitlab(tmp_path / "repo", sandbox).cipipe(*COMMAND, CI_MERGE_REQUEST_IID="3")
    assert caller(sandbox, json.loads(done.out)).startswith(
        f"arn:aws:sts::{ACCOUNT}:assumed-role/verify/"
    )


def test_a_github_job_mints_a_token_for_each_call(sandbox: Sandbox, tmp_path: Path) -> None:
    job, before = github(tmp_path / "repo", sandbox), len(sandbox.exchanges())
    outcomes = [job.cipipe(*COMMAND) for _ in range(2)]
    assert [(done.status, done.err) for done in outcomes] == [(0, "")] * 2
    made = sandbox.exchanges()[before:]
    assert {entry["issuer"] for entry in made} == {"https://token.actions.githubusercontent.com"}
    assert {entry["aud"] for entry in made} == {"sts.amazonaws.com"}
    assert len({entry["jti"] for entry in made}) == 2


def test_a_token_file_is_read_anew_each_time(sandbox: Sandbox, tmp_path: Path) -> None:
    config = (
        f'{CONFIG}\n[oidc]\nlocal = {{ token_file = "token", audience = "https://gitlab.com" }}\n'
    )
    job, before = shell(tmp_path / "repo", sandbox, config), len(sandbox.exchanges())
    missing = job.cipipe(*COMMAND)
    assert (missing.status, missing.out, missing.id) == (3, "", "oidc-token-file")
    for _ in range(2):
        asked = {
            "project": "group/shop",
            "ref": "main",
            "ref_type": "branch",
            "audience": "https://gitlab.com",
        }
        (job.root / "token").write_text(sandbox.mint(**asked) + "\n")
        assert job.cipipe(*COMMAND).status == 0
    assert len({entry["jti"] for entry in sandbox.exchanges()[before:]}) == 2


def test_a_role_of_another_account_by_way_of_the_first(sandbox: Sandbox, tmp_path: Path) -> None:
    done = gitlab(tmp_path / "repo", sandbox).cipipe(*COMMAND, "--env", "live")
    assert (done.status, done.err) == (0, "")
    assert (
        caller(sandbox, json.loads(done.out))
        == f"arn:aws:sts::{OTHER}:assumed-role/deploy/shop-live-7"
    )


def test_a_chain_that_the_second_role_does_not_allow(sandbox: Sandbox, tmp_path: Path) -> None:
    config = CONFIG.replace(
        'via_role_arn = "arn:aws:iam::111111111111:role/deploy',
        'via_role_arn = "arn:aws:iam::111111111111:role/verify',
    )
    done = gitlab(tmp_path / "repo", sandbox, config).cipipe(*COMMAND, "--env", "live")
    assert (done.status, done.out, done.id) == (3, "", "oidc-chain-denied")
    assert "is not authorized to perform: sts:AssumeRole on resource" in done.err


FAILING: dict[str, tuple[dict[str, str], tuple[str, ...], int, str]] = {
    # what is wrong: variables, arguments, exit status, the error's id
    "no token": ({"AWS_ID_TOKEN": ""}, (), 3, "oidc-no-token"),
    "no token, own keys": (
        {"AWS_ID_TOKEN": "", "GITLAB_CI": "", "AWS_ACCESS_KEY_ID": "x"},
        (),
        3,
        "oidc-no-token",
    ),
    "a fork": (
        {
            "AWS_ID_TOKEN": "",
            "CI_MERGE_REQUEST_IID": "1",
            "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "fork/shop",
        },
        (),
        3,
        "oidc-fork-cannot-mint",
    ),
    "garbage": ({"AWS_ID_TOKEN": "e30.e30.x"}, (), 3, "oidc-token-unsigned"),
    "no endpoint": ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, (), 3, "oidc-sts-unreachable"),
    "no environment": ({}, ("--env", "nowhere"), 2, "environment-unknown"),
    "JSON asked for": ({}, ("--format", "json"), 2, "usage"),
    "an output file": ({}, ("--output", "credentials.json"), 2, "usage"),
    "no run": ({}, ("--socket", "nothing"), 3, "oidc-not-served"),
}


@pytest.mark.parametrize("what", FAILING)
def test_failing_prints_nothing(sandbox: Sandbox, tmp_path: Path, what: str) -> None:
    env, arguments, status, name = FAILING[what]
    job = gitlab(tmp_path / "repo", sandbox)
    done = job.cipipe(*COMMAND, *arguments, **env)
    assert (done.status, done.out, done.id) == (status, "", name)
    assert job.env["AWS_ID_TOKEN"] not in done.err
    assert not (job.root / "credentials.json").exists()


def test_a_denial_is_no_half_answer(sandbox: Sandbox, tmp_path: Path) -> None:
    job = gitlab(tmp_path / "repo", sandbox, project="group/fork")
    done = job.cipipe(*COMMAND)
    assert (done.status, done.out, done.id) == (3, "", "oidc-access-denied")
    assert not any(part in done.err for part in job.env["AWS_ID_TOKEN"].split("."))


def test_on_github_no_mask_command_goes_where_a_tool_would_quote_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    job = github(tmp_path / "repo", sandbox)
    assert job.cipipe(*COMMAND, "-v").err == ""


def test_a_reader_that_goes_away_is_no_success(sandbox: Sandbox, tmp_path: Path) -> None:
    job = gitlab(tmp_path / "repo", sandbox)
    argv = [sys.executable, "-m", "cipipe", *COMMAND]
    with subprocess.Popen(
        argv, env=dict(job.env), cwd=job.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.close()
        child.wait()
    assert child.returncode != 0
