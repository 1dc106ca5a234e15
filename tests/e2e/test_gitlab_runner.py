"""This repository's own GitLab pipeline, run by a local runner against a sandbox.

Each test looks at the ledger before and after; the job's log says only which jobs there were.
Tests that come later build on what the ones before deployed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from cipipe.sandbox.client import Sandbox
from support.clone import STAGES, Clone, clone_of_this_repository
from support.gitlab_runner import Runner, build_python_image
from support.job_image import import_dbt_base
from support.tools import require

ACCOUNTS = {"dev": "111111111111", "live": "222222222222"}
DAG = "dags/dbt_redshift.py"


@dataclass
class World:
    """A clone of this repository, its sandbox and its runner."""

    clone: Clone
    runner: Runner
    sandbox: Sandbox

    def records(self, environment: str = "dev") -> dict[str, dict[str, Any]]:
        """What the ledger holds of each stage."""
        keys = self.sandbox.admin_of(ACCOUNTS[environment])
        client = boto3.client(
            "s3",
            region_name="eu-central-1",
            endpoint_url=self.sandbox.state.aws_url,
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key,
        )
        bucket = f"cipipe-{ACCOUNTS[environment]}-eu-central-1"
        prefix = f"ledger/dbt-deployment/{environment}/"
        listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        return {
            key.removeprefix(prefix).removesuffix(".json"): json.loads(
                client.get_object(Bucket=bucket, Key=key)["Body"].read()
            )
            for key in (entry["Key"] for entry in listed)
            if key.endswith(".json") and not key.endswith(".outputs.json")
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    require("terraform", "the infrastructure")
    require("dockerd", "building the image")
    require("docker-registry", "pushing the image")
    clone = clone_of_this_repository(tmp_path_factory.mktemp("clone") / "repository")
    try:
        for environment in ACCOUNTS:
            up = clone.cipipe("sandbox", "up", "--env", environment)
            assert up.status == 0, up.text
        # The job `test` would run these tests again.
        runner = Runner(clone, "example/dbt-deployment", replaced={"test": ["true"]})
        daemon = {"DOCKER_HOST": runner.sandbox["DOCKER_HOST"]}
        build_python_image(daemon)
        import_dbt_base(daemon, clone.env.get("BASE_IMAGE"))
        yield World(clone, runner, clone.sandbox())
    finally:
        clone.cipipe("sandbox", "down")


@pytest.fixture(scope="module")
def deployed(world: World) -> dict[str, dict[str, Any]]:
    """The records after the first push."""
    assert world.records() == {}
    pipeline = world.runner.push()
    assert pipeline.passed == {"deploy:dev"}, pipeline.log
    return world.records()


def changes(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name in after if after[name] != before.get(name)}


def test_the_first_push_deploys_everything(
    deployed: dict[str, dict[str, Any]], world: World
) -> None:
    head = world.clone.git("rev-parse", "HEAD")
    assert set(deployed) == {*STAGES, "pipelines/gitlab"}
    for stage in STAGES:
        record = deployed[stage]
        assert (record["state"], record["commit"], record["ref"]) == ("deployed", head, "main")
        assert (record["provider"], record["sequence"]) == ("gitlab", world.runner.number)
    assert world.records("live") == {}


def test_nothing_is_due_but_the_default_stage(
    deployed: dict[str, dict[str, Any]], world: World
) -> None:
    before = world.records()
    pipeline = world.runner.push()
    assert pipeline.passed == {"deploy:dev"}, pipeline.log
    assert changes(before, world.records()) == {"pipelines/gitlab"}
    assert world.records()["pipelines/gitlab"]["sequence"] == world.runner.number
    assert "default: done" in pipeline.log


def test_a_merge_request_verifies_and_writes_nothing(
    deployed: dict[str, dict[str, Any]], world: World
) -> None:
    before = world.records()
    world.clone.git("checkout", "--quiet", "-b", "feature")
    world.clone.commit(DAG, "# a comment of a merge request\n")
    exchanges = len(world.sandbox.exchanges())
    pipeline = world.runner.merge_request("feature")
    assert pipeline.passed == {"verify:dev"}, pipeline.log
    assert world.records() == before
    (exchange,) = world.sandbox.exchanges()[exchanges:]
    assert "dbt-deployment-verify" in json.dumps(exchange)


def test_a_fork_plans_without_an_identity(
    deployed: dict[str, dict[str, Any]], world: World
) -> None:
    before = world.records()
    exchanges = len(world.sandbox.exchanges())
    pipeline = world.runner.merge_request("feature", source="somebody/dbt-deployment")
    assert pipeline.passed == {"plan:dev"}, pipeline.log
    assert (world.records(), len(world.sandbox.exchanges())) == (before, exchanges)


def test_a_changed_dag_runs_its_stage_alone(
    deployed: dict[str, dict[str, Any]], world: World
) -> None:
    world.clone.git("checkout", "--quiet", "main")
    before = world.records()
    commit = world.clone.commit(DAG, "# a comment\n")
    pipeline = world.runner.push()
    assert pipeline.passed == {"deploy:dev"}, pipeline.log
    after = world.records()
    assert changes(before, after) == {"dags", "pipelines/gitlab"}
    assert (after["dags"]["state"], after["dags"]["commit"]) == ("deployed", commit)


def test_a_tag_deploys_live(deployed: dict[str, dict[str, Any]], world: World) -> None:
    world.clone.git("tag", "v1")
    before = world.records()
    pipeline = world.runner.tag("v1")
    assert pipeline.passed == {"deploy:live"}, pipeline.log
    live = world.records("live")
    assert {live[stage]["state"] for stage in STAGES} == {"deployed"}
    assert live["dags"]["ref"] == "v1"
    assert live["image"]["data"]["digest"] == before["image"]["data"]["digest"]
    assert world.records() == before


def test_live_is_not_destroyed_without_saying_so_twice(
    deployed: dict[str, dict[str, Any]], world: World
) -> None:
    before = world.records("live")
    pipeline = world.runner.tag("v1", jobs=("destroy:live",), CONFIRM="live")
    assert pipeline.failed == {"destroy:live"}, pipeline.log
    assert "[destroy-protected]" in pipeline.log
    assert world.records("live") == before


def test_destroying_by_hand(deployed: dict[str, dict[str, Any]], world: World) -> None:
    before = world.records()
    for confirm in ("", "live"):
        pipeline = world.runner.push(jobs=("destroy:dev",), CONFIRM=confirm)
        assert pipeline.failed == {"destroy:dev"}, pipeline.log
        assert "[destroy-not-confirmed]" in pipeline.log
    assert world.records() == before

    pipeline = world.runner.push(jobs=("destroy:dev",), CONFIRM="dev")
    assert pipeline.passed == {"destroy:dev"}, pipeline.log
    assert {world.records()[stage]["state"] for stage in STAGES} == {"destroyed"}
