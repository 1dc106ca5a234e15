"""The command line, as a process: what goes to which stream, with which exit status, and what it
loads and starts.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from support.command import Cli
from support.deployment import CONFIG, Deployment

HEAVY = (
    "boto3",
    "botocore",
    "docker",
    "requests",
    "gitlab",
    "rich",
    "jwt",
    "cryptography",
    "urllib3",
    "asyncio",
)

PLAN_OFFLINE_GIT_COMMANDS = 3
"""What a plan of this size may start: each is a process. Lower it when fewer do; a higher number
needs a reason.
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment.make(tmp_path / "repo", **{"dbt/Dockerfile": "FROM scratch\n"})


@pytest.fixture
def cipipe(deployment: Deployment, tmp_path: Path) -> Cli:
    return Cli(deployment.repo.clone(tmp_path / "clone").root)


def test_plan_offline(cipipe: Cli) -> None:
    done = cipipe("plan", "--offline", "--format", "json")
    assert (done.status, done.err) == (0, "")
    assert done.document["schema"] == 1
    assert {stage["name"] for stage in done.document["stages"]} == {
        "iac",
        "image",
        "dags",
        "default",
    }
    text = cipipe("plan", "--offline")
    assert (text.status, text.err) == (0, "")
    assert text.out.startswith("shop → dev  commit ")


def test_plan_without_credentials_says_that_it_does_not_know_the_ledger(cipipe: Cli) -> None:
    done = cipipe("plan", "--format", "json")
    assert done.status == 0
    assert "no AWS credentials here" in done.err
    assert done.document["baseline"]["kind"] == "revision"


JOBS = {
    "gitlab push": {
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "push",
        "CI_COMMIT_REF_NAME": "main",
    },
    "gitlab merge request": {
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "merge_request_event",
        "CI_MERGE_REQUEST_IID": "7",
        "CI_COMMIT_REF_NAME": "side",
    },
    "gitlab request from a fork": {
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "merge_request_event",
        "CI_MERGE_REQUEST_IID": "7",
        "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "mallory/shop",
        "CI_MERGE_REQUEST_PROJECT_PATH": "group/shop",
    },
    "github push": {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_REF_NAME": "main",
    },
    "github pull request": {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_REF": "refs/pull/7/merge",
    },
}


@pytest.mark.parametrize("format_", ["text", "json", "markdown", "gitlab", "github"])
@pytest.mark.parametrize("job", JOBS)
def test_plan_in_a_job_without_a_token_compares_with_a_commit(
    cipipe: Cli, job: str, format_: str
) -> None:
    done = cipipe("plan", "--base", "HEAD", "--format", format_, **JOBS[job])
    same = cipipe("plan", "--format", format_, **JOBS[job])
    assert (same.status, done.err) == (0, "")
    assert "comparing with a commit, not with what is deployed" in same.err
    assert same.out
    if "fork" not in job and "pull" not in job:
        assert ("id_tokens" if "gitlab" in job else "id-token: write") in same.err


def test_keys_of_another_step_do_not_look_at_a_merge_request(cipipe: Cli) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "x" * 40}
    done = cipipe("plan", **JOBS["gitlab merge request"], **keys)
    assert done.status == 0
    assert "this job has no ID token" in done.err


def test_a_plan_with_an_invalid_token_is_an_error(cipipe: Cli) -> None:
    """What is deployed was to be looked at, and could not be."""
    done = cipipe("plan", "--format", "json", **JOBS["gitlab push"], AWS_ID_TOKEN="no.token.x")
    assert done.status == 3
    assert done.error.startswith("oidc-")


def test_what_needs_a_token_is_an_error_without_one(cipipe: Cli) -> None:
    done = cipipe("status", "--format", "json", **JOBS["gitlab push"])
    assert (done.status, done.error) == (3, "oidc-no-token")


def test_plan_offline_loads_no_sdk(cipipe: Cli) -> None:
    code = (
        "import sys\n"
        "from cipipe.cli import main\n"
        "status = main(['plan', '--offline', '--output', 'plan.txt'])\n"
        f"print(status, *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = cipipe(code=code)
    assert (done.out, done.err) == ("0\n", "")


def test_plan_against_a_commit_loads_nothing_that_takes_long(cipipe: Cli) -> None:
    code = (
        "import sys\n"
        "from cipipe.cli import main\n"
        "status = main(['plan', '--offline', '--base', 'HEAD', '--output', 'plan.txt'])\n"
        "slow = {'subprocess', 'concurrent.futures', 'tempfile', 'asyncio'}\n"
        "print(status, *slow.intersection(sys.modules))"
    )
    done = cipipe(code=code)
    assert (done.out, done.err) == ("0\n", "")


def test_plan_offline_starts_few_git_commands_and_nothing_else(cipipe: Cli, tmp_path: Path) -> None:
    log = tmp_path / "log"
    programs = tmp_path / "bin"
    programs.mkdir()
    real = shutil.which("git")
    for name in ("git", "terraform", "docker", "aws", "ssh"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $1" >>"{log}"\nexec {real} "$@"\n')
        (programs / name).chmod(0o755)
    done = cipipe("plan", "--offline", PATH=f"{programs}{os.pathsep}{os.environ['PATH']}")
    assert done.status == 0
    commands = log.read_text().splitlines()
    assert not [command for command in commands if not command.startswith("git ")]
    assert not {"git fetch", "git pull", "git remote", "git checkout"}.intersection(commands)
    assert len(commands) <= PLAN_OFFLINE_GIT_COMMANDS, commands


def test_plan_as_markdown_and_with_what_no_stage_covers(cipipe: Cli) -> None:
    done = cipipe("plan", "--offline", "--format", "markdown", "--show-uncovered")
    assert done.status == 0
    assert done.out.startswith("### `shop` → `dev`\n\nCommit `")
    assert "1 file is covered by no stage: docs/page.md" in done.out
    assert "warning: 1 file is covered by no stage: docs/page.md" in done.err


def test_plan_never_touches_the_clone(cipipe: Cli) -> None:
    before = {path: path.stat().st_mtime_ns for path in cipipe.root.rglob("*") if path.is_file()}
    assert cipipe("plan", "--offline").status == 0
    assert {
        path: path.stat().st_mtime_ns for path in cipipe.root.rglob("*") if path.is_file()
    } == before


def test_from_a_folder_below(cipipe: Cli) -> None:
    assert Cli(cipipe.root / "dbt")("plan", "--offline").out == cipipe("plan", "--offline").out


def test_output_goes_into_a_file(cipipe: Cli) -> None:
    done = cipipe("plan", "--offline", "--format", "json", "--output", "plan.json")
    assert (done.status, done.out) == (0, "")
    assert json.loads((cipipe.root / "plan.json").read_text())["schema"] == 1


def test_output_into_a_folder_that_is_not_there(cipipe: Cli) -> None:
    done = cipipe("plan", "--offline", "--output", "absent/plan.txt")
    assert done.status == 2, done.err
    assert "absent" in done.err


@pytest.mark.parametrize(
    ("confirm", "id"),
    [([], "destroy-not-confirmed"), (["--confirm", "live"], "destroy-not-confirmed")],
)
def test_destroy_wants_to_be_confirmed(cipipe: Cli, confirm: list[str], id: str) -> None:
    done = cipipe("destroy", "--env", "dev", *confirm, "--format", "json")
    assert (done.status, done.error) == (5, id)


BROKEN = (
    CONFIG.replace('name = "shop"', 'nmae = "shop"')
    .replace('source = "dags"', "source = 1")
    .replace('needs = ["iac"]', 'needs = ["iac", "dags", "nothing"]')
)


@pytest.mark.parametrize("command", [["check"], ["plan", "--offline"], ["status"]])
def test_every_problem_of_a_configuration_is_reported(cipipe: Cli, command: list[str]) -> None:
    (cipipe.root / "cipipe.toml").write_text(BROKEN)
    expected = {
        "project.nmae",
        "project.name",
        "stages.dags.source",
        "stages.image.needs[2]",
        "stages.image.needs",
    }
    done = cipipe(*command, "--format", "json")
    assert (done.status, done.error) == (2, "config-invalid")
    problems = done.document["error"]["problems"]
    assert {problem["where"].partition(": ")[2] for problem in problems} == expected
    assert all(problem["where"].startswith("cipipe.toml:") for problem in problems)
    text = cipipe(*command)
    assert (text.status, text.out) == (2, "")
    assert all(f": {path}: " in text.err for path in expected)


def test_hostile_keys_are_shown_and_not_obeyed(cipipe: Cli) -> None:
    (cipipe.root / "cipipe.toml").write_text(CONFIG + '\n["x\\u001b]0;gone\\u0007\\n::error::y"]\n')
    done = cipipe("check")
    assert done.status == 2
    assert all(line.isprintable() for line in done.err.splitlines())
    assert not [line for line in done.err.splitlines() if line.startswith("::")]


def test_check(cipipe: Cli) -> None:
    assert cipipe("check").out.startswith("cipipe.toml is valid: project shop")
    assert cipipe("check", "--format", "json").document["stages"] == [
        "iac",
        "image",
        "dags",
        "default",
    ]
