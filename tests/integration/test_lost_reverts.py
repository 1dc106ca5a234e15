"""Two pipelines, one environment: the scripts of the real pipeline files, run in the order that
used to lose a revert.

The older pipeline changes a DAG, the newer one reverts that, and plans before the change is
deployed.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cipipe.sandbox import Sandbox
from cipipe.tools.aws.clients import Aws
from support import jobs
from support.git import Repo
from support.pipeline_runs import AFTER, BEFORE, CONFIG, DEFAULT_RAN, KEY, LEDGER, SharedProject


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with jobs.sandbox_with_roles(tmp_path_factory.mktemp("sandbox")) as running:
        Aws(running.endpoint(jobs.REGION), running.admin).call(
            "s3",
            "create_bucket",
            Bucket=LEDGER,
            CreateBucketConfiguration={"LocationConstraint": jobs.REGION},
        )
        yield running


@pytest.fixture
def project(sandbox: Sandbox, tmp_path: Path) -> SharedProject:
    bucket = f"dags-{abs(hash(tmp_path)):x}"
    admin = Aws(sandbox.endpoint(jobs.REGION), sandbox.admin)
    where = {"LocationConstraint": jobs.REGION}
    admin.call("s3", "create_bucket", Bucket=bucket, CreateBucketConfiguration=where)
    origin = Repo(tmp_path / "origin")
    origin.write(
        {
            "cipipe.toml": CONFIG.replace("BUCKET", bucket),
            "image/model.sql": "select 1",
            ".gitignore": "*.yml\n",
        }
    )
    return SharedProject(tmp_path, sandbox, bucket, origin)


def first_gitlab(project: SharedProject) -> None:
    first = project.gitlab(BEFORE)
    first.plan()
    first.deploy()
    assert first.colour == "green", first.log
    assert [job.name for job in first.ran] == ["plan", "deploy:image", "deploy:dags", "finish"]
    assert project.deployed == BEFORE
    assert first.log.count(f"uploaded {KEY}") == 1  # and the last job did nothing again
    assert DEFAULT_RAN not in first.log


def test_a_revert_that_was_planned_before_the_change_was_deployed(project: SharedProject) -> None:
    first_gitlab(project)
    change, revert = project.gitlab(AFTER), project.gitlab(BEFORE)
    change.plan()
    revert.plan()
    assert list(change.jobs) == ["deploy:dags", "finish"]
    assert list(revert.jobs) == ["finish"], (
        "nothing is due for the revert: what it wants is still deployed"
    )
    with ThreadPoolExecutor() as pool:
        first = pool.submit(change.deploy)
        while not (project.groups["dev"].locked() or first.done()):
            time.sleep(0.01)
        second = pool.submit(revert.deploy)
        first.result()
        second.result()
    assert change.colour == "green", change.log
    assert f"uploaded {KEY}" in change.log
    assert revert.colour == "green", revert.log
    assert f"uploaded {KEY}" in revert.log
    assert project.deployed == BEFORE


def test_a_revert_of_what_its_own_change_needs(project: SharedProject) -> None:
    """The revert's own job finds that a stage is due which it does not run, and leaves both to the
    last job.
    """
    first_gitlab(project)
    change, revert = project.gitlab(BEFORE, "select 2"), project.gitlab(AFTER)
    change.plan()
    revert.plan()
    assert list(change.jobs) == ["deploy:image", "deploy:dags", "finish"]
    assert list(revert.jobs) == ["deploy:dags", "finish"]
    change.deploy()
    revert.deploy()
    assert (revert.colour, project.deployed) == ("green", AFTER), revert.log
    assert "stage dags needs image, which is due and was not selected" in revert.ran[1].log
    assert "✓ image: done" in revert.ran[2].log
    assert DEFAULT_RAN not in revert.log


def test_the_revert_comes_first(project: SharedProject) -> None:
    """Nothing was due for it, so no record of a stage tells of it; the change must not come after
    it all the same.
    """
    first_gitlab(project)
    change, revert = project.gitlab(AFTER), project.gitlab(BEFORE)
    change.plan()
    revert.plan()
    revert.deploy()
    assert (revert.colour, project.deployed) == ("green", BEFORE)
    assert DEFAULT_RAN in revert.log
    change.deploy()
    assert (change.colour, project.deployed) == ("red", BEFORE)
    assert "[older-pipeline]" in change.ran[-1].log
    assert change.ran[-1].status == 5


def test_an_older_pipeline_with_nothing_to_do_stays_green(project: SharedProject) -> None:
    first_gitlab(project)
    older, newer = project.gitlab(BEFORE), project.gitlab(AFTER)
    older.plan()
    newer.plan()
    newer.deploy()
    older.deploy()
    assert (older.colour, newer.colour, project.deployed) == ("green", "green", AFTER)
    assert "by a newer pipeline" in older.log
    assert DEFAULT_RAN not in older.log


def test_a_github_run_that_is_run_again_after_its_revert(project: SharedProject) -> None:
    first = project.github(BEFORE).run()
    assert first.green, first.log
    assert project.deployed == BEFORE
    assert first.jobs == ("plan", "wave-1 image", "wave-2 dags", "finish")
    assert DEFAULT_RAN not in first.log
    # The change's run was cancelled before it deployed.
    change = project.github(AFTER)
    revert = project.github(BEFORE).run()
    assert (revert.green, revert.jobs) == (True, ("plan", "finish")), revert.log
    assert DEFAULT_RAN in revert.log
    again = change.run()
    assert (again.failed, project.deployed) == (("wave-1 dags",), BEFORE)
    assert "[older-pipeline]" in again.log


def test_a_github_run_that_waited_for_the_change(project: SharedProject) -> None:
    first = project.github(BEFORE).run()
    assert first.green, first.log
    change, revert = project.github(AFTER), project.github(BEFORE)
    changed = change.run()
    assert changed.green, changed.log
    assert project.deployed == AFTER
    last = revert.run()
    assert (last.green, project.deployed) == (True, BEFORE), last.log
