"""`cipipe init` on a terminal: it asks, shows what it would write, and asks once more."""

import sys
import tomllib
from pathlib import Path

import pytest

from support.command import Cli
from support.environment import shell_environment
from support.git import ENV, Repo
from support.init_shapes import DAG, DBT, S3
from support.terminal_sessions import CTRL_C, CTRL_D, typed

FILES = {"terraform/main.tf": S3, "dags/a.py": DAG, **DBT}
# Each question, and a good answer.
PROJECT = ("Project [shop]: ", "\n")
ACCOUNT = ("AWS account of dev: ", "111111111111\n")
REGION = ("Region of dev: ", "eu-central-1\n")
REPOSITORY = (
    "URL of the ECR repository: ",
    "{account_id}.dkr.ecr.{region}.amazonaws.com/{project}-{environment}\n",
)
BUCKET = ("MWAA's bucket: ", "{project}-{environment}-dags\n")
QUESTIONS = (PROJECT, ACCOUNT, REGION, REPOSITORY, BUCKET)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "shop")
    made.git("remote", "add", "origin", "git@gitlab.com:data/shop.git")
    made.write(FILES)
    made.commit()
    return made


def init(repo: Repo, *answers: tuple[str, str], flags: tuple[str, ...] = ()) -> tuple[int, str]:
    env = shell_environment(ENV) | {"HOME": str(repo.root.parent), "TERM": "dumb"}
    return typed([sys.executable, "-m", "cipipe", "init", *flags], answers, cwd=repo.root, env=env)


def changed(repo: Repo) -> list[str]:
    """The files that are new or differ from the commit."""
    return [line[3:] for line in repo.git("status", "--short", "-uall").splitlines()]


def test_answers_become_the_configuration(repo: Repo) -> None:
    status, shown = init(repo, *QUESTIONS, ("Write cipipe.toml, ", "y\n"))
    assert status == 0, shown
    assert shown.index("+[environments.dev]") < shown.index("Write cipipe.toml, ")
    written = tomllib.loads((repo.root / "cipipe.toml").read_text())
    assert written["project"]["name"] == "shop"
    assert written["environments"]["dev"]["account_id"] == "111111111111"
    assert written["stages"]["image"]["repository"] == REPOSITORY[1].strip()
    assert written["stages"]["dags"]["bucket"] == BUCKET[1].strip()
    assert Cli(repo.root)("check").status == 0
    assert {".gitignore", ".gitlab-ci.yml", "cipipe.schema.json", "cipipe.toml"} == {*changed(repo)}


def test_wrong_answers_are_asked_again(repo: Repo) -> None:
    wrong = (
        (PROJECT[0], "my shop!\n"),
        ("it has to be lower-case letters", ""),
        PROJECT,
        (ACCOUNT[0], "12345\n"),
        ("it has to be 12 digits", ""),
        (ACCOUNT[0], "\n"),
        (ACCOUNT[0], " 111111111111 \n"),
        (REGION[0], "Frankfurt\n"),
        ("it has to be an AWS region", ""),
        REGION,
        (REPOSITORY[0], "https://example.com/a\n"),
        ("without https://", ""),
        REPOSITORY,
        (BUCKET[0], "s3://a\n"),
        ("without s3://", ""),
        BUCKET,
        ("Write cipipe.toml, ", "perhaps\n"),
        ("Error: invalid input", ""),
        ("Write cipipe.toml, ", "\n"),
    )
    status, shown = init(repo, *wrong)
    assert status == 0, shown
    written = tomllib.loads((repo.root / "cipipe.toml").read_text())
    assert written["environments"]["dev"]["account_id"] == "111111111111"


def test_the_end_of_the_input_leaves_nothing(repo: Repo) -> None:
    status, shown = init(repo, PROJECT, (ACCOUNT[0], CTRL_D))
    assert status == 130, shown
    assert "Traceback" not in shown
    assert changed(repo) == []


@pytest.mark.parametrize("number", range(len(QUESTIONS) + 1))
def test_ctrl_c_leaves_nothing(repo: Repo, number: int) -> None:
    questions = [*QUESTIONS, ("Write cipipe.toml, ", "y\n")]
    stop = (questions[number][0], CTRL_C)
    status, shown = init(repo, *questions[:number], stop)
    assert status == 130, shown
    assert "Traceback" not in shown
    assert changed(repo) == []


def test_no_writes_nothing(repo: Repo) -> None:
    status, shown = init(repo, *QUESTIONS, ("Write cipipe.toml, ", "n\n"))
    assert status == 5, shown
    assert "init-would-overwrite" in shown
    assert changed(repo) == []


def test_what_was_given_is_not_asked(repo: Repo) -> None:
    flags = ("--account", "111111111111", "--region", "eu-central-1", "--project", "shop")
    status, shown = init(repo, REPOSITORY, BUCKET, ("Write cipipe.toml, ", "y\n"), flags=flags)
    assert status == 0, shown
    assert "AWS account" not in shown


def test_other_environments_replace_the_file_only_if_somebody_agrees(repo: Repo) -> None:
    flags = ("--account", "111111111111", "--region", "eu-central-1", "--project", "shop")
    assert init(repo, REPOSITORY, BUCKET, ("Write", "y\n"), flags=flags)[0] == 0
    first = {name: (repo.root / name).read_bytes() for name in changed(repo)}
    more = (*flags, "--environments", "dev,test,live")
    # Environments that share a repository or a bucket would be refused after all answers.
    places = [
        (question.replace(":", ", with {environment} for the environment:"), answer)
        for question, answer in (REPOSITORY, BUCKET)
    ]

    status, shown = init(repo, *places, ("Write cipipe.toml? [y/N]: ", "\n"), flags=more)
    assert status == 5, shown
    assert "+[environments.test]" in shown
    assert {name: (repo.root / name).read_bytes() for name in changed(repo)} == first

    status, shown = init(repo, *places, ("Write cipipe.toml? [y/N]: ", "y\n"), flags=more)
    assert status == 0, shown
    written = tomllib.loads((repo.root / "cipipe.toml").read_text())
    assert list(written["environments"]) == ["dev", "test", "live"]
    # The pipeline may have been changed by hand.
    assert (repo.root / ".gitlab-ci.yml").read_bytes() == first[".gitlab-ci.yml"]
    assert ".gitlab-ci.yml stays as it is" in shown
    assert "dev, test, live" in shown
