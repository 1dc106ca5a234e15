"""What `cipipe check` finds in the repository, and what a plan or run refuses before it starts.
Real git.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from cipipe.cli import main
from cipipe.errors import Problem, ProblemsError
from cipipe.model import Mode
from cipipe.pipeline import project
from cipipe.pipeline.checks import paths
from cipipe.pipeline.planning import plan as planning
from cipipe.pipeline.planning import snapshot
from support.configurations import HEAD as DEV
from support.configurations import LIVE_ELSEWHERE
from support.git import ENV, Repo
from support.sessions import session_of

HEAD = DEV + LIVE_ELSEWHERE
CONFIG = (
    HEAD
    + """
[stages.iac]
kind = "terraform"
paths = ["terraform/**"]
root = "terraform/{environment}"
backend = { bucket = "state-{account_id}", key = "k" }
var_files = ["{environment}.tfvars", "../common.tfvars"]

[stages.image]
kind = "image"
paths = ["transform/**"]
context = "transform"
dockerfile = "docker/Dockerfile"
repository = { output = "url" }
needs = ["iac"]

[stages.dags]
kind = "dags"
paths = ["dags/**", "plugins/**", "requirements.txt"]
source = "dags"
bucket = { output = "bucket" }
requirements = "requirements.txt"
plugins = "plugins"
needs = ["iac"]
"""
)
FILES = {
    "cipipe.toml": CONFIG,
    "terraform/dev/main.tf": 'terraform {\n  backend "s3" {}\n}\n',
    "terraform/live/main.tf": 'terraform {\n  backend "s3" {}\n}\n',
    "terraform/dev/dev.tfvars": "",
    "terraform/live/live.tfvars": "",
    "terraform/common.tfvars": "",
    "transform/docker/Dockerfile": "FROM scratch\n",
    "transform/model.sql": "select 1",
    "dags/a.py": "from airflow import DAG\n",
    "plugins/p.py": "",
    "requirements.txt": "",
}


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "shop")
    made.commit(FILES)
    return made


@pytest.fixture
def check(repo: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What `cipipe check` finds, by key path: the line, the message and the hint."""

    def run() -> dict[str, tuple[str, str, str | None]]:
        monkeypatch.chdir(repo.root)
        monkeypatch.setattr("os.environ", ENV)
        capsys.readouterr()
        status = main(["check", "--format", "json"])
        document = json.loads(capsys.readouterr().out)
        if status == 0:
            return {}
        assert status == 2
        assert document["error"]["id"] == "config-invalid"
        found = {}
        for problem in document["error"]["problems"]:
            place, _, path = problem["where"].partition(": ")
            assert place.startswith("cipipe.toml:")
            found[path] = (problem["id"], problem["message"], problem["hint"])
        return found

    return run


def test_all_that_is_named_is_there(check: Any) -> None:
    assert check() == {}


@pytest.mark.parametrize(
    ("old", "new", "path", "hint"),
    [
        (
            'context = "transform"',
            'context = "transfrom"',
            "context",
            "Perhaps you meant 'transform'.",
        ),
        (
            "docker/Dockerfile",
            "Dockerfile",
            "dockerfile",
            "Perhaps you meant 'transform/docker/Dockerfile'.",
        ),
        ('source = "dags"', 'source = "dag"', "source", "Perhaps you meant 'dags'."),
        (
            'root = "terraform/{environment}"',
            'root = "terrafrom/{environment}"',
            "root",
            "Perhaps you meant",
        ),
        (
            '"../common.tfvars"',
            '"common.tfvars"',
            "var_files[1]",
            "Perhaps you meant 'terraform/common.tfvars'.",
        ),
        ('"{environment}.tfvars"', '"{environment}.tfvar"', "var_files[0]", "Perhaps you meant"),
        (
            'requirements = "requirements.txt"',
            'requirements = "requirement.txt"',
            "requirements",
            "Perhaps you meant",
        ),
        ('plugins = "plugins"', 'plugins = "plugin"', "plugins", "Perhaps you meant 'plugins'."),
    ],
)
def test_a_path_that_does_not_exist(
    repo: Repo, check: Any, old: str, new: str, path: str, hint: str
) -> None:
    assert old in CONFIG
    repo.commit({"cipipe.toml": CONFIG.replace(old, new, 1)})
    found = {where.rpartition(".")[2]: problem for where, problem in check().items()}
    assert found[path][0] == "config-path-missing"
    assert (found[path][2] or "").startswith(hint)


def test_every_environment_is_looked_at(repo: Repo, check: Any) -> None:
    repo.commit({"terraform/live/live.tfvars": None})
    ((path, (_, message, _)),) = check().items()
    assert (path, message) == (
        "stages.iac.var_files[0]",
        "there is no file 'terraform/live/live.tfvars'",
    )


def test_a_file_where_a_folder_has_to_be(repo: Repo, check: Any) -> None:
    repo.commit({"cipipe.toml": CONFIG.replace('source = "dags"', 'source = "dags/a.py"')})
    assert check()["stages.dags.source"][1] == "'dags/a.py' is a file and must be a folder"


def test_every_problem_is_reported_at_once(repo: Repo, check: Any) -> None:
    text = CONFIG.replace('context = "transform"', 'context = "x"').replace(
        'needs = ["iac"]', 'needs = ["ica"]', 1
    )
    text = text.replace(
        'bucket = { output = "bucket" }', 'bucket = { output = "bucket" }\nprefx = "a"'
    )
    text = text.replace('paths = ["terraform/**"]', 'paths = ["{environment}/**"]')
    repo.commit({"cipipe.toml": text})
    assert {path: problem[0] for path, problem in check().items()} == {
        "stages.image.context": "config-path-missing",
        "stages.image.dockerfile": "config-path-missing",
        "stages.image.needs[0]": "config-dangling-name",
        "stages.dags.prefx": "config-unknown-key",
        "stages.iac.paths[0]": "config-placeholder-unexpanded",
        "stages.image.repository": "config-bad-reference",
    }


def test_what_is_not_committed_yet_is_there_unless_git_ignores_it(repo: Repo, check: Any) -> None:
    text = CONFIG.replace('source = "dags"', 'source = "new"')
    repo.write({"cipipe.toml": text, "new/a.py": "x"})
    assert check() == {}
    repo.write({".gitignore": "new/\n"})
    assert (
        check()["stages.dags.source"][2]
        == "It is on disk: git ignores it, or it is empty, or it is not committed yet."
    )


def test_a_repository_without_a_commit(tmp_path: Path, check: Any, repo: Repo) -> None:
    repo.git("update-ref", "-d", "HEAD")
    assert check() == {}
    repo.git("rm", "-qrf", "dags")
    assert set(check()) == {"stages.dags.source"}


def test_folders_behind_links_and_submodules(repo: Repo, check: Any) -> None:
    (repo.root / "linked").symlink_to("terraform")
    repo.commit(
        {
            "cipipe.toml": CONFIG.replace(
                'root = "terraform/{environment}"', 'root = "linked/{environment}"'
            )
        }
    )
    assert check() == {}
    repo.commit({"cipipe.toml": CONFIG.replace('context = "transform"', 'context = "vendor/lib"')})
    repo.add_submodule("vendor/lib", repo.head)
    repo.git("commit", "-qm", "x")
    assert check() == {}


# --- plan and run --------------------------------------------------------------------------------


def refused(repo: Repo, name: str, **options: Any) -> set[str]:
    """The key paths that a plan for an environment is refused for."""
    found = project.load(repo.root, ENV)
    given = planning.PlanOptions(**{"mode": Mode.DEPLOY, **options})
    made = planning.plan(session_of(found, name), given, None)
    problems: tuple[Problem, ...] = ()
    try:
        paths.refuse_missing(found.at(name), made)
    except ProblemsError as error:
        problems = error.problems
    return {problem.where.partition(": ")[2] for problem in problems}


def test_a_plan_is_refused_for_its_own_environment_only(repo: Repo) -> None:
    repo.commit({"terraform/live/live.tfvars": None, "terraform/live/main.tf": None})
    assert refused(repo, "dev") == set()
    assert refused(repo, "live") == {"stages.iac.root", "stages.iac.var_files[0]"}


def test_only_stages_that_run_are_looked_at(repo: Repo) -> None:
    repo.commit({"cipipe.toml": CONFIG.replace('context = "transform"', 'context = "x"')})
    assert refused(repo, "dev") == {"stages.image.context", "stages.image.dockerfile"}
    assert refused(repo, "dev", selected=frozenset({"iac"})) == set()


def test_a_plan_of_the_work_tree_looks_there(repo: Repo) -> None:
    repo.write({"cipipe.toml": CONFIG.replace('context = "transform"', 'context = "next"')})
    repo.write({"next/docker/Dockerfile": "FROM scratch\n"})
    assert refused(repo, "dev") == {"stages.image.context", "stages.image.dockerfile"}
    assert refused(repo, "dev", worktree=True) == set()


@pytest.mark.parametrize(
    "command", [["plan", "--offline"], ["plan", "--offline", "--format", "json"]]
)
def test_the_command_exits_with_2(
    repo: Repo,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    repo.commit({"cipipe.toml": CONFIG.replace('context = "transform"', 'context = "transfrom"')})
    monkeypatch.chdir(repo.root)
    monkeypatch.setattr("os.environ", ENV)
    assert main(command) == 2
    reported = "".join(capsys.readouterr())
    assert "stages.image.context" in reported
    assert "Perhaps you meant 'transform'." in reported


# --- values, and stages of some environments -----------------------------------------------------


def fingerprints(repo: Repo, name: str) -> dict[str, str]:
    found = project.load(repo.root, ENV)
    made = planning.plan(session_of(found, name), planning.PlanOptions(mode=Mode.DEPLOY), None)
    return {stage.name: stage.fingerprint for stage in made.executable.plan.stages}


VALUED = (
    CONFIG.replace('{environment}"\nbackend', 'dev"\nbackend')
    .replace("var_files", "variables = { size = '{values.size}' }\nvar_files")
    .replace(
        "[stages.iac]",
        (
            "[environments.dev.values]\nsize = 's'\n[environments.live.values]\n"
            "size = 's'\n[stages.iac]"
        ),
    )
)


def test_values_count_where_they_are_used(repo: Repo) -> None:
    repo.commit({"cipipe.toml": VALUED})
    before = fingerprints(repo, "dev")
    assert fingerprints(repo, "live") == before, "the same values make the same fingerprints"
    repo.commit({"cipipe.toml": VALUED.replace("size = 's'", "size = 'xl'", 1)})
    after = fingerprints(repo, "dev")
    assert {name for name in after if after[name] != before[name]} == {"iac"}
    assert fingerprints(repo, "live") == before


def test_a_folder_by_environment_counts_as_filled_in(repo: Repo) -> None:
    repo.commit({"cipipe.toml": CONFIG})
    dev, live = fingerprints(repo, "dev"), fingerprints(repo, "live")
    assert {name for name in dev if dev[name] != live[name]} == {"iac"}


def test_what_comes_after_dev_is_compared_with_the_fingerprints_that_dev_has(repo: Repo) -> None:
    """Else other values would make everything look as if dev did not run it."""
    text = VALUED.replace("size = 's'", "size = 'xl'", 1)
    text = text.replace('kind = "dags"', 'kind = "dags"\nenvironments = ["live"]')
    repo.commit({"cipipe.toml": text})
    found = project.load(repo.root, ENV).at("live")
    shot = snapshot.read_snapshot(found)
    assert snapshot.fingerprints_in(found, shot, "dev") == fingerprints(repo, "dev")
    assert snapshot.fingerprints_in(found, shot, "dev")["iac"] != shot.candidates["iac"].fingerprint
    assert set(snapshot.fingerprints_in(found, shot, "dev")) == {"iac", "image"}


def test_a_stage_of_another_environment_is_not_planned(repo: Repo) -> None:
    text = CONFIG.replace('kind = "dags"', 'kind = "dags"\nenvironments = ["live"]')
    repo.commit({"cipipe.toml": text})
    assert set(fingerprints(repo, "dev")) == {"iac", "image"}
    assert set(fingerprints(repo, "live")) == {"iac", "image", "dags"}


def test_a_commit_before_the_environment_was_there_is_no_baseline(repo: Repo) -> None:
    first = repo.commit({"cipipe.toml": CONFIG.replace("live", "prod")})
    repo.commit({"cipipe.toml": CONFIG})
    found = project.load(repo.root, ENV)
    made = planning.plan(
        session_of(found, "live"), planning.PlanOptions(mode=Mode.DEPLOY, base=first), None
    ).executable.plan
    assert made.baseline.kind == "none"
    assert {stage.reason for stage in made.stages} == {"no-baseline"}


@pytest.mark.parametrize(("variable", "status"), [("", 0), ("default", 0), ("blue", 2)])
def test_a_plan_is_not_made_for_another_workspace(
    variable: str,
    status: int,
    repo: Repo,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(repo.root)
    monkeypatch.setattr("os.environ", ENV | {"TF_WORKSPACE": variable})
    assert main(["plan", "--offline", "--format", "json"]) == status
    answer = json.loads(capsys.readouterr().out)
    assert answer.get("error", {}).get("id") == ("terraform-workspace-variable" if status else None)
