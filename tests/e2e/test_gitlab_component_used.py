"""Another repository uses the GitLab component, in five lines, with the container image."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from support.clone import Clone, clone_of_this_repository
from support.component import DEPLOY
from support.gitlab_runner import Runner
from support.job_image import IMAGE, build_job_image, docker
from support.seven_stages import ACCOUNT, DAG, PROJECT, STAGES, seven_stages

# The sandbox's daemon is at a socket of root's, and gitlab-ci-local copies artifacts by rsync.
ROOTS_IMAGE = "cipipe:test"
DOCKERFILE = f"""\
FROM {IMAGE}
USER root
RUN apt-get update -qq && apt-get install -qq --no-install-recommends rsync
"""

FILE = f"""\
include:
  - component: $CI_SERVER_FQDN/data/cipipe/deploy@1.0.0
    inputs:
      image: {ROOTS_IMAGE}
"""
CHILD = FILE + "      pipeline: child\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    folder = tmp_path_factory.mktemp("shop")
    made = seven_stages(folder / "shop", **{".gitlab-ci.yml": FILE})
    try:
        yield made
    finally:
        made.cipipe("sandbox", "down")


@pytest.fixture(scope="module")
def runner(shop: Clone, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    runner = Runner(shop, PROJECT, helper_image=ROOTS_IMAGE)
    daemon = {"DOCKER_HOST": runner.sandbox["DOCKER_HOST"]}
    folder = tmp_path_factory.mktemp("image")
    build_job_image(daemon, clone_of_this_repository(folder / "checkout").folder, folder / "made")
    argv = ["build", "--network", "host", "--tag", ROOTS_IMAGE, "-"]
    done = docker(daemon, *argv, text=DOCKERFILE)
    assert done.returncode == 0, done.stderr

    # Where gitlab-ci-local looks for a component.
    place = ".gitlab-ci-local/includes/gitlab.com/data/cipipe/1.0.0/templates/deploy/template.yml"
    (shop.folder / place).parent.mkdir(parents=True)
    shutil.copy(DEPLOY, shop.folder / place)
    return runner


def ledger(shop: Clone) -> dict[str, dict[str, Any]]:
    sandbox = shop.sandbox()
    keys = sandbox.admin_of(ACCOUNT)
    client = boto3.client(
        "s3",
        region_name="eu-central-1",
        endpoint_url=sandbox.state.aws_url,
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key,
    )
    bucket = f"cipipe-{ACCOUNT}-eu-central-1"
    return {
        stage: json.loads(
            client.get_object(Bucket=bucket, Key=f"ledger/shop/dev/{stage}.json")["Body"].read()
        )
        for stage in STAGES
    }


def test_it_is_five_lines() -> None:
    assert len(FILE.splitlines()) <= 5
    assert len(CHILD.splitlines()) <= 5


@pytest.fixture(scope="module")
def deployed(shop: Clone, runner: Runner) -> dict[str, dict[str, Any]]:
    pipeline = runner.push()
    assert pipeline.passed == {"deploy:dev"}, pipeline.log
    return ledger(shop)


def test_all_stages_are_deployed(deployed: dict[str, dict[str, Any]], shop: Clone) -> None:
    head = shop.git("rev-parse", "HEAD")
    assert {(one["state"], one["commit"]) for one in deployed.values()} == {("deployed", head)}


def test_nothing_is_due(deployed: dict[str, dict[str, Any]], shop: Clone, runner: Runner) -> None:
    pipeline = runner.push()
    assert pipeline.passed == {"deploy:dev"}, pipeline.log
    assert "nothing was due" in pipeline.log
    assert ledger(shop) == deployed


def test_a_revert_that_was_pushed_during_a_deployment(
    deployed: dict[str, dict[str, Any]], shop: Clone, runner: Runner
) -> None:
    """In child pipelines, which are planned before the one before them has ended: nothing is due
    for the revert then, and its last job deploys it all the same.
    """
    (shop.folder / ".gitlab-ci.yml").write_text(CHILD)
    shop.git("commit", "--quiet", "--all", "-m", "A job for each stage")
    change = shop.commit(DAG, "# a change\n")
    change_number, change_jobs = runner.planned()
    assert {"deploy:finance", "finish"} < set(json.loads(change_jobs))
    shop.git("revert", "--no-edit", change)
    revert = shop.git("rev-parse", "HEAD")
    revert_number, revert_jobs = runner.planned()
    assert "deploy:finance" not in json.loads(revert_jobs)

    shop.git("reset", "--hard", "--quiet", change)
    pipeline = runner.child(change_number, change_jobs)
    assert pipeline.passed == {"deploy:finance", "deploy:notify", "finish"}, pipeline.log
    assert ledger(shop)["finance"]["commit"] == change

    shop.git("reset", "--hard", "--quiet", revert)
    pipeline = runner.child(revert_number, revert_jobs)
    assert pipeline.passed == {"finish"}, pipeline.log
    record = ledger(shop)["finance"]
    assert (record["state"], record["commit"]) == ("deployed", revert)
    assert record["fingerprint"] == deployed["finance"]["fingerprint"]
