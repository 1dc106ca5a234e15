"""`cipipe drift` of this repository's own stack, with the task definition that its DAGs run."""

from support.clone import Aws, Clone, FirstRun


def test_a_clean_deployment_has_none(deployed: FirstRun, clone: Clone) -> None:
    assert deployed.outcome.status == 0
    done = clone.cipipe("drift", "--sandbox", "--env", "dev", "--format", "json")
    assert done.status == 0, done.text
    assert done.document["findings"] == []
    assert {stage["state"] for stage in done.document["stages"]} == {"deployed"}


def test_a_task_definition_with_another_image(deployed: FirstRun, clone: Clone, aws: Aws) -> None:
    """The DAGs run a revision that Terraform does not know."""
    assert deployed.outcome.status == 0
    ecs = aws.client("ecs")
    pinned = aws.outputs()["task_definition_arn"]
    definition = ecs.describe_task_definition(taskDefinition=pinned)["taskDefinition"]
    (container,) = definition["containerDefinitions"]
    repository = container["image"].rpartition(":")[0]
    other = ecs.register_task_definition(
        family=definition["family"],
        containerDefinitions=[{**container, "image": f"{repository}:by-hand"}],
    )["taskDefinition"]["taskDefinitionArn"]
    bucket = aws.outputs()["dags_bucket"]
    key = next(key for key in aws.keys(bucket, "dags/") if pinned in aws.get(bucket, key).decode())
    body = aws.get(bucket, key).replace(pinned.encode(), other.encode())
    written = aws.client("s3").put_object(Bucket=bucket, Key=key, Body=body)
    try:
        done = clone.cipipe("drift", "dags", "--sandbox", "--env", "dev", "--format", "json")
    finally:
        aws.client("s3").delete_object(Bucket=bucket, Key=key, VersionId=written["VersionId"])
        ecs.deregister_task_definition(taskDefinition=other)
    assert done.status == 6, done.text
    kinds = {(finding["kind"], finding["what"]) for finding in done.document["findings"]}
    assert ("object-changed", f"s3://{bucket}/{key}") in kinds
