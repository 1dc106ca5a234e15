"""`cipipe drift` of this repository's own stack, with the task definition that its DAGs run."""

from support.clone import Clone, FirstRun


def test_a_clean_deployment_has_none(deployed: FirstRun, clone: Clone) -> None:
    assert deployed.outcome.status == 0
    done = clone.cipipe("drift", "--sandbox", "--env", "dev", "--format", "json")
    assert done.status == 0, done.text
    assert done.document["findings"] == []
    assert {stage["state"] for stage in done.document["stages"]} == {"deployed"}
