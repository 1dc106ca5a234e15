"""The command line itself: wrong options, suggestions, help, colours, interrupts. As a process."""

import sys
from pathlib import Path

import pytest

from cipipe.tools import process
from support.command import Cli
from support.deployment import Deployment
from support.environment import shell_environment
from support.git import ENV


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment.make(tmp_path / "repo", **{"dbt/Dockerfile": "FROM scratch\n"})


@pytest.fixture
def cipipe(deployment: Deployment, tmp_path: Path) -> Cli:
    return Cli(deployment.repo.clone(tmp_path / "clone").root)


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        ("plan --offline imgae", "stage-unknown"),
        ("plan --offline --force imgae", "stage-unknown"),
        ("plan imgae", "stage-unknown"),
        ("run imgae", "stage-unknown"),
        ("run --sandbox --force imgae", "stage-unknown"),
        ("plan --offline --env def", "environment-unknown"),
        ("plan --offline --base nothing", "base-unknown"),
        ("plan --config absent.toml", "config-missing"),
        ("run --worktree", "run-worktree"),
        ("destroy", "destroy-no-environment"),
        ("run --plan absent.json", "plan-file-unreadable"),
        ("plna", "usage"),
        ("plan --offlien", "usage"),
        ("dags patch", "usage"),
    ],
)
def test_usage_errors(cipipe: Cli, arguments: str, id: str) -> None:
    done = cipipe(*arguments.split(), "--format", "json")
    assert (done.status, done.error) == (2, id)
    assert set(done.document) == {"schema", "error"}
    text = cipipe(*arguments.split())
    assert (text.status, text.out) == (2, "")
    assert text.err.startswith("error: ")


def test_suggestions(cipipe: Cli) -> None:
    assert "Perhaps you meant 'image'." in cipipe("plan", "--offline", "imgae").err
    assert "Perhaps you meant 'dev'." in cipipe("plan", "--offline", "--env", "def").err


def test_a_format_that_is_not_there(cipipe: Cli) -> None:
    done = cipipe("plan", "--offline", "--format", "yaml")
    assert (done.status, done.out) == (2, "")
    assert "'json'" in done.err


def test_no_repository(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = Cli(empty)(
        "plan", "--offline", "--format", "json", GIT_CEILING_DIRECTORIES=str(tmp_path)
    )
    assert (done.status, done.error) == (2, "git-no-repository")


@pytest.mark.parametrize(
    ("env", "options", "coloured"),
    [
        ({}, [], False),
        ({"GITLAB_CI": "true"}, [], True),
        ({"GITLAB_CI": "true", "NO_COLOR": "1"}, [], False),
        ({"GITLAB_CI": "true", "NO_COLOR": ""}, [], True),
        ({"GITLAB_CI": "true"}, ["--no-color"], False),
        ({"GITLAB_CI": "true"}, ["--format", "json"], False),
    ],
)
def test_colour(cipipe: Cli, env: dict[str, str], options: list[str], coloured: bool) -> None:
    done = cipipe("plan", "--offline", *options, **env)
    assert done.status == 0
    assert ("\x1b[" in done.out) is coloured


def test_help_and_version(cipipe: Cli) -> None:
    assert cipipe("--version").out.startswith("cipipe ")
    listed = cipipe("--help").out
    for command in (
        "bootstrap",
        "check",
        "dags",
        "destroy",
        "iac",
        "plan",
        "run",
        "sandbox",
        "status",
    ):
        assert command in listed
    assert cipipe("plan", "--help").status == 0


def test_a_bug_exits_with_1(cipipe: Cli) -> None:
    code = (
        "import sys\n"
        "from cipipe.cli import main\n"
        "from cipipe.pipeline.planning import plan as planning\n"
        "planning.read_snapshot = lambda *_, **__: 1 / 0\n"
        "sys.exit(main(['plan', '--offline', '--format', 'json']))"
    )
    done = cipipe(code=code)
    assert done.status == 1
    assert "ZeroDivisionError" in done.err
    assert "this is a bug in cipipe" in done.err
    assert done.document["error"]["id"] == "bug"


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_interrupt_exits_with_130(cipipe: Cli, number: str) -> None:
    code = (
        "import signal, sys\n"
        "from cipipe.cli import main\n"
        "from cipipe.pipeline.planning import plan as planning\n"
        f"planning.read_snapshot = lambda *_, **__: signal.raise_signal(signal.{number})\n"
        "sys.exit(main(['plan', '--offline', '--format', 'json']))"
    )
    done = cipipe(code=code)
    assert (done.status, done.error) == (130, "interrupted")
    assert "Traceback" not in done.err


def test_a_signal_while_a_class_is_created_exits_with_130(cipipe: Cli) -> None:
    """As in an import; Python 3.11 raises a RuntimeError there."""
    code = (
        "import signal, sys\n"
        "from cipipe.cli import main\n"
        "from cipipe.pipeline.planning import plan as planning\n"
        "class Field:\n"
        "    def __set_name__(self, owner, name):\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "planning.read_snapshot = lambda *_, **__: type('Made', (), {'field': Field()})\n"
        "sys.exit(main(['plan', '--offline', '--format', 'json']))"
    )
    done = cipipe(code=code)
    assert (done.status, done.error) == (130, "interrupted")


def test_a_reader_that_goes_away_is_no_failure(cipipe: Cli) -> None:
    script = (
        f"{sys.executable} -m cipipe plan --offline | head -c 1 "
        '>/dev/null; echo "${PIPESTATUS[0]}"'
    )
    clean = shell_environment(ENV)
    done = process.run(["bash", "-c", script], env=clean, cwd=cipipe.root)
    assert done.stdout == b"0\n"
    assert b"Traceback" not in done.stderr


def test_a_configuration_is_named_relative_to_the_working_folder(cipipe: Cli) -> None:
    below = Cli(cipipe.root / "docs")
    assert below("check", "--config", "../cipipe.toml").status == 0
    done = below("plan", "--offline", "--config", "../cipipe.toml", "--format", "json")
    assert done.status == 0, done.err
    assert done.document["warnings"] == []


@pytest.mark.parametrize("group", [[], ["dags"], ["iac"], ["oidc"], ["sandbox"]])
def test_a_group_alone_shows_what_there_is(cipipe: Cli, group: list[str]) -> None:
    done = cipipe(*group)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"Usage: {' '.join(['cipipe', *group])} [OPTIONS] COMMAND")
    assert done.out == cipipe(*group, "--help").out


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["statsu"], "'status'"),
        (["Check"], "'check'"),
        (["deploy"], "'dags deploy'"),
        (["trust-policy"], "'oidc trust-policy'"),
        (["dags", "rolback"], "'rollback'"),
        (["sandbox", "dwon"], "'down'"),
        (["oidc", "explian"], "'explain'"),
        (["plan", "--show-uncoverd"], "'--show-uncovered'"),
        (["dags", "deploy", "--dryrun"], "'--dry-run'"),
        (["plan", "--format", "markdwon"], "'markdown'"),
        (["status", "--format", "jason"], "'json'"),
        (["oidc", "trust-policy", "--provider", "GitHub"], "'github'"),
        (["qqqq"], None),
        (["x" * 100_000], None),
        (["plan", "--format", "qqqq"], None),
    ],
)
def test_a_misspelt_word_gets_a_suggestion(
    cipipe: Cli, arguments: list[str], meant: str | None
) -> None:
    done = cipipe(*arguments)
    assert (done.status, done.out) == (2, "")
    assert "[usage]" in done.err
    assert ("Did you mean" in done.err) is (meant is not None)
    assert f"Did you mean {meant}?" in done.err or meant is None


def test_a_misspelt_word_in_json(cipipe: Cli) -> None:
    done = cipipe("pln", "--format", "json")
    assert (done.status, done.error) == (2, "usage")
    assert done.document["error"]["message"] == "No such command 'pln'. Did you mean 'plan'?"
