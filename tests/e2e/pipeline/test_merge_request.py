"""A merge request to this repository: its DAGs as they would be, before anything is applied."""

from collections.abc import Iterator

import pytest

from cipipe.sandbox.client import Sandbox
from support.clone import STAGES, Aws, Clone, FirstRun


@pytest.fixture
def branch(clone: Clone) -> Iterator[Clone]:
    """The clone on a branch of its own."""
    clone.git("checkout", "--quiet", "-b", "side")
    yield clone
    clone.git("checkout", "--quiet", "main")
    clone.git("branch", "--quiet", "-D", "side")


def test_a_renamed_cluster_shows_the_diff_of_the_dags(
    deployed: FirstRun, branch: Clone, aws: Aws, sandbox: Sandbox, gitlab_job: dict[str, str]
) -> None:
    file = branch.folder / "terraform/ecs.tf"
    text = file.read_text()
    cluster = 'resource "aws_ecs_cluster" "this" {\n  name = local.name\n'
    assert cluster in text
    file.write_text(text.replace(cluster, cluster.replace("local.name", '"${local.name}-fast"')))
    branch.git("commit", "--quiet", "-am", "Rename the cluster")
    before = {stage: aws.record(stage) for stage in STAGES}
    outputs = aws.outputs()
    request = {
        "CI_PIPELINE_SOURCE": "merge_request_event",
        "CI_MERGE_REQUEST_IID": "5",
        "CI_COMMIT_REF_NAME": "side",
        "AWS_ID_TOKEN": sandbox.mint(
            project="example/dbt-deployment",
            ref="side",
            ref_type="branch",
            audience="https://gitlab.com",
            event="merge-request",
        ),
    }

    done = branch.run(**{**gitlab_job, **request})

    assert done.status == 0, done.text
    assert done.results() == {
        "iac": "done",
        "image": "unchanged",
        "dags": "done",
        "default": "unchanged",
    }
    (dags,) = (stage for stage in done.document["stages"] if stage["name"] == "dags")
    found = dags["findings"]["dags"]
    assert (dags["reason"], found["bucket"]) == ("upstream", outputs["dags_bucket"])
    assert {change["change"] for change in found["changes"]} == {"changed"}
    old = outputs["ecs_cluster_name"]
    for change in found["changes"]:
        lines = [line for line in change["diff"].splitlines()[2:] if line[:1] in {"+", "-"}]
        assert lines
        assert [line for line in lines if line.startswith("-") and f'"{old}"' in line]
        assert [line for line in lines if line.startswith("+") and f'"{old}-fast"' in line]
    assert {stage: aws.record(stage) for stage in STAGES} == before
    assert aws.outputs() == outputs
