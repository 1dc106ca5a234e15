"""A shell that deploys where a pipeline may not: asked on a terminal, refused without one, unless
--yes says so.

What is confirmed goes on, and fails without AWS credentials: exit status 3.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from support.configurations import HEAD, LIVE_ELSEWHERE
from support.environment import shell_environment
from support.git import ENV, Repo
from support.terminal_sessions import typed

CONFIG = (
    HEAD
    + """\
deploy_from = { branches = ["main", "release/*"] }
"""
    + LIVE_ELSEWHERE
    + """\
deploy_from = { branches = ["main"] }
protected = true
allow_destroy = true

[environments.tags]
account_id = "444444444444"
region = "eu-central-1"
role_arn = "arn:aws:iam::444444444444:role/deploy"
deploy_from = { tags = ["v*"] }

[environments.own]
account_id = "333333333333"
region = "eu-central-1"
role_arn = "arn:aws:iam::333333333333:role/deploy"

[stages.dags]
kind = "dags"
paths = ["dags/**"]
source = "dags"
bucket = "shop-{environment}"
"""
)
CONFIRMED = 3
RUN, DEPLOY, ROLLBACK = ("run",), ("dags", "deploy"), ("dags", "rollback")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    found = Repo(tmp_path / "repo")
    found.write({"cipipe.toml": CONFIG, "dags/a.py": "from airflow import DAG\n"})
    found.git("add", "--all")
    found.git("commit", "--quiet", "-m", "one")
    return found


def environment(repo: Repo, **more: str) -> dict[str, str]:
    clean = shell_environment(ENV)
    return clean | {"HOME": str(repo.root.parent), "AWS_EC2_METADATA_DISABLED": "true", **more}


def cipipe(repo: Repo, *arguments: str, **more: str) -> tuple[int, str]:
    argv = [sys.executable, "-m", "cipipe", *arguments]
    env = environment(repo, **more)
    done = subprocess.run(
        argv,
        cwd=repo.root,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def at_terminal(repo: Repo, answer: str, *arguments: str) -> tuple[int, str]:
    """The exit status, and all that the terminal showed, of a command that somebody types an answer
    to.
    """
    argv = [sys.executable, "-m", "cipipe", *arguments]
    answers = [("to continue: ", f"{answer}\n")]
    return typed(argv, answers, cwd=repo.root, env=environment(repo))


@pytest.mark.parametrize("command", [RUN, DEPLOY, ROLLBACK])
@pytest.mark.parametrize(
    ("branch", "name", "words"),
    [
        ("main", "live", "live is protected"),
        ("feature/x", "dev", "branch feature/x"),
        ("HEAD", "dev", "on no branch"),
    ],
)
def test_without_a_terminal_it_is_refused(
    repo: Repo, command: tuple[str, ...], branch: str, name: str, words: str
) -> None:
    repo.git("checkout", "--quiet", *(["--detach"] if branch == "HEAD" else ["-B", branch]))
    status, said = cipipe(repo, *command, "--env", name)
    assert (status, "shell-not-confirmed" in said, words in said) == (5, True, True), said
    status, said = cipipe(repo, *command, "--env", name, "--yes")
    assert status == CONFIRMED, said


@pytest.mark.parametrize(
    ("branch", "name"), [("main", "dev"), ("release/2", "dev"), ("side", "own")]
)
def test_what_a_pipeline_may_do_is_not_asked(repo: Repo, branch: str, name: str) -> None:
    repo.git("checkout", "--quiet", "-B", branch)
    assert cipipe(repo, "run", "--env", name)[0] == CONFIRMED


def test_the_tags_of_a_commit_that_is_checked_out_count(repo: Repo) -> None:
    repo.git("tag", "nightly")
    repo.git("checkout", "--quiet", "nightly")
    assert cipipe(repo, "run", "--env", "tags")[0] == 5
    repo.git("tag", "--annotate", "v1.2", "-m", "a release")
    status, said = cipipe(repo, "run", "--env", "tags")
    assert status == CONFIRMED, said
    assert cipipe(repo, "run", "--env", "dev")[0] == 5, "which names no tags"
    repo.git("checkout", "--quiet", "-B", "main")
    assert cipipe(repo, "run", "--env", "tags")[0] == 5, "a branch is checked out"


def test_destroying_is_confirmed_by_name_and_for_its_branch(repo: Repo) -> None:
    repo.git("checkout", "--quiet", "-B", "main")
    command = ("destroy", "--env", "live", "--confirm", "live", "--allow-destroy")
    assert cipipe(repo, *command)[0] == CONFIRMED
    repo.git("checkout", "--quiet", "-B", "side")
    status, said = cipipe(repo, *command)
    assert (status, "shell-not-confirmed" in said) == (5, True), said
    assert cipipe(repo, *command, "--yes")[0] == CONFIRMED


def test_looking_needs_no_confirmation(repo: Repo) -> None:
    repo.git("checkout", "--quiet", "-B", "side")
    for command in (("dags", "deploy", "--dry-run"), ("dags", "diff"), ("status",)):
        assert "shell-not-confirmed" not in cipipe(repo, *command, "--env", "live")[1]
    assert cipipe(repo, "plan", "--env", "live", "--offline")[0] == 0


def test_a_job_is_not_asked(repo: Repo) -> None:
    repo.git("checkout", "--quiet", "-B", "side")
    job = {"GITLAB_CI": "true", "CI_PIPELINE_SOURCE": "push", "CI_COMMIT_REF_NAME": "side"}
    status, said = cipipe(repo, "run", "--env", "live", "--yes", **job)
    assert (status, "ref-not-allowed" in said) == (5, True), said


@pytest.mark.parametrize(
    ("answer", "status"),
    [("live", CONFIRMED), ("LIVE_ELSEWHERE", 5), ("y", 5), ("", 5), ("dev", 5)],
)
def test_on_a_terminal_the_name_is_typed(repo: Repo, answer: str, status: int) -> None:
    repo.git("checkout", "--quiet", "-B", "main")
    found, shown = at_terminal(repo, answer, "run", "--env", "live")
    assert found == status, shown
    assert "Type live to continue" in shown
    assert ("shell-not-confirmed" in shown) is (status == 5)
