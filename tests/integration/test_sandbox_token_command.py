"""`cipipe sandbox token`: what a runner on this machine gives to a job."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from cipipe.sandbox import SandboxOptions, attached
from cipipe.tools import http
from support.command import Cli
from support.git import Repo

CONFIG = """\
[project]
name = "shop"
default_environment = "dev"
[oidc.gitlab]
project = "group/shop"
token_variable = "MY_TOKEN"
[oidc.github]
project = "owner/shop"
[environments.dev]
account_id = "111111111111"
region = "eu-central-1"
role_arn = "arn:aws:iam::111111111111:role/shop-deploy"
deploy_from = { branches = ["main"] }
[stages.a]
kind = "command"
paths = ["a/**"]
run = [["true"]]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("sandbox")
    options = SandboxOptions(directory=made, account_id="111111111111", docker=False)
    with attached(options, env=dict(os.environ), say=print):
        yield made


@pytest.fixture
def cipipe(tmp_path: Path) -> Cli:
    repo = Repo(tmp_path / "shop")
    repo.write({"cipipe.toml": CONFIG})
    repo.commit()
    return Cli(repo.root)


def variables(cipipe: Cli, folder: Path, *arguments: str) -> dict[str, str]:
    words = ("sandbox", "token", "--format", "json", *arguments)
    done = cipipe(*words, CIPIPE_SANDBOX_DIR=str(folder))
    assert done.status == 0, done.err
    return dict(json.loads(done.out)["environment"])


def claims(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def test_a_variable_with_the_token(cipipe: Cli, folder: Path) -> None:
    found = variables(cipipe, folder)
    assert list(found) == ["MY_TOKEN"]
    subject = "project_path:group/shop:ref_type:branch:ref:main"
    assert claims(found["MY_TOKEN"])["sub"] == subject
    assert claims(found["MY_TOKEN"])["aud"] == "https://gitlab.com"
    of_tag = variables(cipipe, folder, "--tag", "v1", "--event", "schedule")
    assert claims(of_tag["MY_TOKEN"])["ref_type"] == "tag"
    assert claims(of_tag["MY_TOKEN"])["pipeline_source"] == "schedule"


def test_a_url_for_the_token(cipipe: Cli, folder: Path) -> None:
    found = variables(cipipe, folder, "--provider", "github", "--branch", "feature")
    answer = http.get_json(
        found["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=sts.amazonaws.com",
        headers={"Authorization": f"bearer {found['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"},
    )
    assert claims(answer["value"])["sub"] == "repo:owner/shop:ref:refs/heads/feature"
    assert claims(answer["value"])["aud"] == "sts.amazonaws.com"


def test_a_job_that_names_an_environment(cipipe: Cli, folder: Path) -> None:
    found = variables(cipipe, folder, "--provider", "github", "--job-environment", "eu / live:1")
    answer = http.get_json(
        found["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=sts.amazonaws.com",
        headers={"Authorization": f"bearer {found['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"},
    )
    # Of all characters, GitHub encodes the colon alone.
    assert claims(answer["value"])["sub"] == "repo:owner/shop:environment:eu / live%3A1"
    assert claims(answer["value"])["ref"] == "refs/heads/main"
    of_gitlab = variables(cipipe, folder, "--job-environment", "live")
    assert claims(of_gitlab["MY_TOKEN"])["environment"] == "live"


def test_what_cannot_be(cipipe: Cli, folder: Path, tmp_path: Path) -> None:
    both = ("sandbox", "token", "--branch", "a", "--tag", "b")
    assert cipipe(*both, CIPIPE_SANDBOX_DIR=str(folder)).status == 2
    done = cipipe("sandbox", "token", CIPIPE_SANDBOX_DIR=str(tmp_path / "none"))
    assert (done.status, "cipipe sandbox up" in done.err) == (2, True)


def test_a_sandbox_that_does_not_enforce_iam_is_not_taken_for_one_that_does(
    cipipe: Cli, folder: Path
) -> None:
    words = ("status", "--sandbox", "--format", "json")
    done = cipipe(*words, CIPIPE_SANDBOX_DIR=str(folder), CIPIPE_SANDBOX_IAM="enforce")
    assert done.status == 2
    assert json.loads(done.out)["error"]["id"] == "sandbox-iam-not-enforced"
