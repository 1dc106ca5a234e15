"""This repository's GitHub workflows, run by act against a sandbox, and those of a repository that
calls the reusable workflow. What counts is the ledger, and what Airflow would read.

A runner has neither concurrency groups nor environments here: test_github_workflow.py is about
those.
"""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import github_projects
from support.github_projects import DAG, JOB, Project
from support.github_runner import Event, Runner, Started, WorkflowRun, by_hand, pull_request, push
from support.image_project import import_base
from support.terraform_mirror import TerraformMirror, terraform_mirror
from support.tools import ROOT, require

HOURLY = DAG.format(name="orders", schedule="@hourly")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in ("terraform", "dockerd", "docker-registry"):
        require(tool, "a deployment")
    return tmp_path_factory.mktemp("github")


@pytest.fixture(scope="module")
def mirror(folder: Path) -> Iterator[TerraformMirror]:
    """From where the jobs install Terraform: a small file that starts this machine's."""
    program = folder / "terraform"
    program.write_text(f'#!/bin/sh\nexec {require("terraform", "the jobs")} "$@"\n')
    with terraform_mirror(program, folder / "mirror") as found:
        yield found


@pytest.fixture(scope="module")
def project(folder: Path, mirror: TerraformMirror) -> Iterator[Project]:
    """This repository, and the accounts of both environments."""
    made = github_projects.this_repository(folder / "repository")
    mirror.use_in(made.folder)
    made.save("Deploy little")
    made.sandbox_folder = made.folder / ".cipipe/sandbox"
    for environment in ("dev", "live"):
        up = made.cipipe("sandbox", "up", "--env", environment)
        assert up.status == 0, up.text
    made.runner = runner(made, folder / "runner", mirror)
    import_base(made.sandbox().child_env()["DOCKER_HOST"])
    yield made
    made.cipipe("sandbox", "down")


def runner(project: Project, folder: Path, mirror: TerraformMirror) -> Runner:
    """A runner whose Python has what cipipe needs: the installation in each job is quick then."""
    python = folder / "python"
    subprocess.run([sys.executable, "-m", "venv", str(python)], check=True)
    locked = str(project.folder / "scripts/requirements/runtime.txt")
    install = [str(python / "bin/pip"), "install", "--quiet", "--require-hashes", "-r", locked]
    subprocess.run(install, check=True, capture_output=True)
    return Runner(
        folder / "act",
        # Terraform's provider is below the home folder where it cannot be downloaded.
        {
            **project.sandbox().child_env(),
            **JOB,
            "HOME": str(Path.home()),
            "TERRAFORM_MIRROR": mirror.url,
        },
        programs=python / "bin",
        variables={"TERRAFORM_MIRROR": mirror.url},
        own=project.folder,
    )


@pytest.fixture(scope="module")
def first(project: Project) -> WorkflowRun:
    return project.run(push())


def head(project: Project) -> str:
    return project.git("rev-parse", "HEAD")


def test_a_first_push_deploys_everything(project: Project, first: WorkflowRun) -> None:
    assert first.green, first.log
    assert first.jobs == (
        "tests",
        "plan",
        "wave-1 iac",
        "wave-2 image",
        "wave-3 dags",
        "finish",
    )
    commit = head(project)
    assert project.deployed() == dict.fromkeys(("iac", "image", "dags"), commit)
    assert project.ledger("live") == {}
    assert 'BUCKET = "dbt-deployment-dev-dags"' in project.dag("dags/orders.py")
    images = project.client("ecr", "dev").list_images(repositoryName="dbt-deployment-dev-ecr")
    assert len(images["imageIds"]) == 1


def test_a_second_push_runs_the_default_stage_alone(project: Project, first: WorkflowRun) -> None:
    before = project.ledger()
    project.save("Nothing")
    second = project.run(push())
    assert second.green, second.log
    assert second.jobs == ("tests", "plan", "finish")
    assert project.ledger() == before
    assert "✓ default: done" in second.log


def test_a_changed_dag_runs_alone(project: Project, first: WorkflowRun) -> None:
    before = project.deployed()
    project.write("dags/orders.py", HOURLY)
    commit = project.save()
    changed = project.run(push())
    assert changed.green, changed.log
    assert changed.jobs == ("tests", "plan", "wave-1 dags", "finish")
    assert project.deployed() == {**before, "dags": commit}
    assert "@hourly" in project.dag("dags/orders.py")


def test_a_stage_can_be_forced_by_hand(project: Project, first: WorkflowRun) -> None:
    before = project.ledger()
    forced = project.run(by_hand(force="image"))
    assert forced.green, forced.log
    # One job does it all.
    assert forced.jobs == ("plan", "finish")
    after = project.ledger()
    assert {name for name in after if after[name] != before[name]} == {"image"}
    assert after["image"]["sequence"] == project.number


def feature(project: Project) -> None:
    """A branch that changes a DAG."""
    project.git("checkout", "--quiet", "-B", "feature", "main")
    project.write("dags/orders.py", DAG.format(name="orders", schedule="@weekly"))
    project.save("A feature")
    project.git("checkout", "--quiet", "main")


def test_a_pull_request_is_verified(project: Project, first: WorkflowRun) -> None:
    feature(project)
    before = project.ledger()
    exchanges = len(project.sandbox().exchanges())
    verified = project.run(pull_request(project.path))
    assert verified.green, verified.log
    assert verified.jobs == ("verify",)
    assert project.ledger() == before
    made = project.sandbox().exchanges()[exchanges:]
    assert {exchange["sub"] for exchange in made} == {f"repo:{project.path}:pull_request"}
    assert {exchange["role"].rpartition("/")[2] for exchange in made} == {"dbt-deployment-verify"}


@pytest.mark.parametrize(
    "event",
    [
        pull_request("example/dbt-deployment", head="someone/dbt-deployment"),
        pull_request("example/dbt-deployment", author="dependabot[bot]"),
    ],
    ids=["fork", "dependabot"],
)
def test_who_has_no_identity_gets_a_plan(
    project: Project, first: WorkflowRun, event: Event
) -> None:
    feature(project)
    before = project.ledger()
    exchanges = len(project.sandbox().exchanges())
    planned = project.run(event, identity=False)
    assert planned.green, planned.log
    assert planned.jobs == ("fork",)
    assert re.search(r"dags +due +1 file changed", planned.log)
    assert project.ledger() == before
    assert len(project.sandbox().exchanges()) == exchanges


def test_a_tag_deploys_live(project: Project, first: WorkflowRun) -> None:
    commit = project.ledger()["dags"]["commit"]
    project.git("tag", "--force", "v1", commit)
    dev = project.ledger()
    tagged = project.run(push("refs/tags/v1"))
    assert tagged.green, tagged.log
    assert tagged.jobs[-4:] == ("wave-1 iac", "wave-2 image", "wave-3 dags", "finish")
    assert project.deployed("live") == dict.fromkeys(("iac", "image", "dags"), commit)
    assert project.ledger() == dev
    digests = [project.ledger(name)["image"]["data"]["digest"] for name in ("dev", "live")]
    assert digests[0] == digests[1]
    assert 'BUCKET = "dbt-deployment-live-dags"' in project.dag("dags/orders.py", "live")


@pytest.mark.parametrize("confirm", ["", "live"])
def test_destroying_is_refused_unconfirmed(
    project: Project, first: WorkflowRun, confirm: str
) -> None:
    before = project.ledger()
    event = by_hand(environment="dev", confirm=confirm, allow_destroy=False)
    refused = project.run(event, "destroy.yml")
    assert refused.failed == ("destroy",), refused.log
    assert "[destroy-not-confirmed]" in refused.log
    assert project.ledger() == before


# The repository that calls the reusable workflow.


def _documented() -> list[str]:
    page = (ROOT / "docs/github.md").read_text()
    return [
        str(text) for text in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    ]


@pytest.fixture(scope="module")
def shop(folder: Path, project: Project) -> Project:
    """It uses the sandbox of the other one."""
    (caller,) = [text for text in _documented() if "install: |" in text]
    assert len(caller.splitlines()) <= 10
    made = github_projects.shop(folder / "shop", caller)
    made.env = {**project.env, "CIPIPE_SANDBOX_DIR": str(project.sandbox_folder)}
    made.sandbox_folder = project.sandbox_folder
    made.runner = project.runner
    made.number = 1000
    made.save("Seven stages")
    made.git("remote", "add", "origin", f"https://github.com/{made.path}.git")
    up = made.cipipe("sandbox", "up", "--env", "test")
    assert up.status == 0, up.text
    return made


@pytest.fixture(scope="module")
def seven(shop: Project, first: WorkflowRun) -> WorkflowRun:
    """`first` has installed cipipe into the runner's Python, as the requirements of a release
    would do.
    """
    return shop.run(push())


def test_seven_stages_of_another_repository(shop: Project, seven: WorkflowRun) -> None:
    assert seven.green, seven.log
    assert [set(jobs) for jobs in _rounds(seven)] == [
        {"plan"},
        {"wave-1 network"},
        {"wave-2 api", "wave-2 dbt"},
        {"wave-3 daily", "wave-3 hourly"},
        {"wave-4 check"},
        {"finish"},
    ]
    stages = ("network", "api", "dbt", "daily", "hourly", "check")
    assert shop.deployed("test") == dict.fromkeys(stages, head(shop))
    assert 'BUCKET = "shop-test-dags"' in shop.dag("daily/daily.py", "test")


def _rounds(run: WorkflowRun) -> list[list[str]]:
    """The jobs, those of one wave together."""
    found: dict[str, list[str]] = {}
    for name in run.jobs:
        found.setdefault(name.partition(" ")[0], []).append(name)
    return list(found.values())


def test_a_revert_pushed_during_a_deployment_is_not_lost(
    shop: Project, seven: WorkflowRun, tmp_path: Path
) -> None:
    """Even where nothing makes its run wait, as when both have a group of their own."""
    assert seven.green, seven.log
    release = tmp_path / "release"
    shop.write("daily/daily.py", DAG.format(name="daily", schedule="@weekly"))
    shop.write("check/run.sh", f"while [ ! -e {release} ]; do sleep 0.1; done\n")
    shop.save("Change")
    change = shop.start_run(push())
    try:
        _wait_for(shop, "check", "deploying", change)
        assert "@weekly" in shop.dag("daily/daily.py", "test")
        shop.git("revert", "--no-edit", "HEAD")
        revert = shop.run(push())
        assert revert.green, revert.log
    finally:
        release.touch()
        older = shop.ended(change)

    # What the revert took over, the change may not finish.
    assert older.failed == ("wave-2 check",), older.log
    assert "[ledger-conflict]" in older.log
    commit = head(shop)
    deployed = shop.deployed("test")
    assert (deployed["daily"], deployed["check"]) == (commit, commit)
    assert "@daily" in shop.dag("daily/daily.py", "test")


def _wait_for(project: Project, stage: str, state: str, run: Started) -> None:
    while project.ledger("test").get(stage, {}).get("state") != state:
        assert run.process.poll() is None, project.ended(run).log
        time.sleep(0.2)


def test_a_job_of_its_own_with_the_action(shop: Project, seven: WorkflowRun) -> None:
    (text,) = [text for text in _documented() if "uses: OWNER/cipipe@" in text]
    shop.write(".github/workflows/action.yml", text)
    shop.write("hourly/hourly.py", DAG.format(name="hourly", schedule="@yearly"))
    commit = shop.save("Use the action")
    done = shop.run(push(), "action.yml")
    assert done.green, done.log
    assert done.jobs == ("deploy",)
    assert shop.deployed("test")["hourly"] == commit
    assert "@yearly" in shop.dag("hourly/hourly.py", "test")


def test_destroying_by_hand(project: Project, first: WorkflowRun) -> None:
    event = by_hand(environment="dev", confirm="dev", allow_destroy=False)
    gone = project.run(event, "destroy.yml")
    assert gone.green, gone.log
    assert gone.jobs == ("destroy",)
    assert set(project.deployed().values()) == {"destroyed"}
