"""The images that ECS runs, or would run next, in the account of the stage.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html
"""

from collections.abc import Iterator
from typing import Any

from cipipe.tools.aws.clients import Aws

# What ecs:DescribeTasks accepts at once.
_BATCH = 100


def images_in_use(aws: Aws, repository: str) -> frozenset[str]:
    """The tags and digests of a repository that a task runs, or that the
    newest active revision of a task definition names.

    Raises AwsError: without permission nobody knows.
    """
    found = {*_of_tasks(aws), *_of_newest_definitions(aws)}
    return frozenset(
        name for image in found for name in _names(image, repository) if name is not None
    )


def _of_tasks(aws: Aws) -> Iterator[str]:
    for page in aws.pages("ecs", "list_clusters"):
        for cluster in page["clusterArns"]:
            # Tasks that are still being started count as running.
            tasks = [
                arn
                for page in aws.pages("ecs", "list_tasks", cluster=cluster)
                for arn in page["taskArns"]
            ]
            yield from _of_batches(aws, cluster, tasks)


def _of_batches(aws: Aws, cluster: str, tasks: list[str]) -> Iterator[str]:
    definitions: set[str] = set()
    for start in range(0, len(tasks), _BATCH):
        answer = aws.call(
            "ecs", "describe_tasks", cluster=cluster, tasks=tasks[start : start + _BATCH]
        )
        for task in answer["tasks"]:
            definitions.add(task["taskDefinitionArn"])
            for container in task.get("containers", ()):
                yield str(container.get("image", ""))
                yield f"@{container.get('imageDigest', '')}"
    for definition in sorted(definitions):
        yield from _of_definition(aws, definition)


def _of_newest_definitions(aws: Aws) -> Iterator[str]:
    for page in aws.pages("ecs", "list_task_definition_families", status="ACTIVE"):
        for family in page["families"]:
            yield from _of_definition(aws, family)


def _of_definition(aws: Aws, name: str) -> Iterator[str]:
    answer: dict[str, Any] = aws.call("ecs", "describe_task_definition", taskDefinition=name)
    for container in answer["taskDefinition"]["containerDefinitions"]:
        yield str(container.get("image", ""))


def _names(image: str, repository: str) -> Iterator[str | None]:
    """The tag and the digest in `REPOSITORY:TAG@DIGEST`, if it is this repository."""
    rest, _, digest = image.partition("@")
    if rest == "":
        # A task names its digest without the repository.
        yield digest or None
    elif rest == repository or rest.startswith(f"{repository}:"):
        yield digest or None
        yield rest.removeprefix(repository).removeprefix(":") or None
