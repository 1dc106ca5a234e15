"""One sandbox for the whole session, and a clone of this repository that is deployed into it again
and again.
"""

import os
import shutil
from collections.abc import Iterator

import pytest

from cipipe.sandbox import client
from cipipe.sandbox.client import Sandbox
from support.clone import STAGES, Aws, Clone, FirstRun, clone_of_this_repository
from support.leaks import leaks
from support.tools import ROOT, require


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """The clone, with a sandbox that is kept for it. The base image is the one that scripts/setup
    made.
    """
    require("terraform", "the infrastructure")
    require("dockerd", "building the image")
    require("docker-registry", "pushing the image")
    folder = tmp_path_factory.mktemp("clone") / "repository"
    made = clone_of_this_repository(folder)
    # Every run proves that the roles' policies suffice.
    made.env["CIPIPE_SANDBOX_IAM"] = "enforce"
    (folder / ".cipipe").mkdir()
    (folder / ".cipipe/docker").symlink_to(require(ROOT / ".cipipe/docker", "the base image"))
    up = made.cipipe("sandbox", "up", "--env", "dev")
    assert up.status == 0, up.text
    yield made
    running = client.find(folder / ".cipipe/sandbox")
    hashes = running.secret_hashes() if running else []
    made.cipipe("sandbox", "down")
    logs = [
        *(folder / ".cipipe/sandbox").glob("*.log"),
        *(folder / ".cipipe/sandbox").glob("*/*.log"),
    ]
    found = {log.name: leaks(log.read_text(errors="replace"), hashes=hashes) for log in logs}
    assert {name: secrets for name, secrets in found.items() if secrets} == {}, (
        "a log of the sandbox holds secrets"
    )


@pytest.fixture(scope="session")
def sandbox(clone: Clone) -> Sandbox:
    return clone.sandbox()


@pytest.fixture(scope="session")
def first_run(clone: Clone, sandbox: Sandbox, aws: Aws) -> FirstRun:
    """Everything is due, everything is real."""
    before = len(sandbox.exchanges())
    done = clone.run()
    assert done.status == 0, done.text
    return FirstRun(
        outcome=done,
        commit=clone.git("rev-parse", "HEAD"),
        records={stage: aws.record(stage) for stage in STAGES},
        exchanges=sandbox.exchanges()[before:],
        dag_files={path.name for path in (clone.folder / "dags").glob("*.py")},
    )


@pytest.fixture(scope="module")
def deployed(first_run: FirstRun, clone: Clone) -> FirstRun:
    """HEAD is deployed when a module starts, whatever the modules before it left behind."""
    plan = clone.plan()
    if any(plan[stage] != ("unchanged", "unchanged") for stage in STAGES):
        done = clone.run()
        assert done.status == 0, done.text
    return first_run


@pytest.fixture(scope="session")
def aws(sandbox: Sandbox) -> Aws:
    return Aws(sandbox)


@pytest.fixture(scope="session")
def gitlab_job(sandbox: Sandbox) -> dict[str, str]:
    """The variables of a push to main, without a token."""
    assert sandbox
    return {
        "CI": "true",
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "push",
        "CI_COMMIT_REF_NAME": "main",
        "CI_COMMIT_BRANCH": "main",
        "CI_COMMIT_REF_PROTECTED": "true",
        "CI_DEFAULT_BRANCH": "main",
        "CI_PIPELINE_IID": "7",
        "CI_PIPELINE_URL": "https://gitlab.com/example/dbt-deployment/-/pipelines/7",
        "CI_PROJECT_PATH": "example/dbt-deployment",
        "GITLAB_USER_LOGIN": "tester",
    }


def pytest_configure() -> None:
    # Terraform finds provider plugins below the home folder; dockerd's programs may lie outside a
    # user's PATH.
    os.environ["PATH"] = os.pathsep.join(
        [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"]
    )
    assert shutil.which("git")
