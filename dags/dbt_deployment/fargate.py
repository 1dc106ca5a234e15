"""Run one container on ECS Fargate and report how it ended. This needs only a boto3 client, no
scheduler.

A stopped task counts as successful only if its container has the exit code 0. ECS omits the exit
code if a container never ran or did not run to completion: its image could not be pulled, its
secret has no value, or capacity was withdrawn.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger(__name__)

# Right after the start, ECS may not find the task yet.
_MAX_TIMES_NOT_FOUND = 5


class TaskFailedError(RuntimeError):
    """The task did not start, or did not exit with code 0."""


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container to run, and where."""

    cluster: str
    # The ARN of a revision, not of the family: it names one image.
    task_definition: str
    # As in the task definition.
    name: str
    subnets: list[str]
    security_groups: list[str]
    command: list[str]
    # Added to the variables in the task definition.
    environment: dict[str, str] = field(default_factory=dict)


def network_configuration(subnets: list[str], security_groups: list[str]) -> dict[str, Any]:
    """The network of a Fargate task for ecs:RunTask, without a public address."""
    return {
        "awsvpcConfiguration": {
            "subnets": subnets,
            "securityGroups": security_groups,
            "assignPublicIp": "DISABLED",
        }
    }


def container_overrides(
    name: str, command: list[str], environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """What one run overrides in the task definition, for ecs:RunTask."""
    variables = [{"name": key, "value": value} for key, value in (environment or {}).items()]
    return {"containerOverrides": [{"name": name, "command": command, "environment": variables}]}


def name_of(instance: Any) -> str:
    """A value for `startedBy` that is the same for every try of a task instance.

    A later try finds the task of an earlier one by it.
    """
    return _digest(instance.dag_id, instance.run_id, instance.task_id, instance.map_index)


def token_of(instance: Any) -> str:
    """A `clientToken` that makes one try's request to start a task idempotent."""
    return _digest(name_of(instance), instance.try_number)


def start(ecs: Any, container: Container, name: str, token: str) -> str:
    """Start the container, or reuse a task that an earlier try left running. Returns its ARN.

    `name` and `token` come from `name_of` and `token_of`. With `token`, a request that is repeated
    because its response was lost does not start a second task.
    """
    running = ecs.list_tasks(cluster=container.cluster, startedBy=name, desiredStatus="RUNNING")
    if running["taskArns"]:
        arn = str(running["taskArns"][0])
        log.info("Task %s is already running, from an earlier try", arn)
        return arn

    answer = ecs.run_task(
        cluster=container.cluster,
        taskDefinition=container.task_definition,
        launchType="FARGATE",
        count=1,
        startedBy=name,
        clientToken=token,
        networkConfiguration=network_configuration(container.subnets, container.security_groups),
        overrides=container_overrides(container.name, container.command, container.environment),
    )
    # ECS reports a lack of capacity in `failures`, with status 200.
    if not answer["tasks"]:
        reasons = [
            f"{failure.get('reason')} {failure.get('detail', '')}".strip()
            for failure in answer["failures"]
        ]
        raise TaskFailedError(f"ECS started no task: {'; '.join(reasons) or 'it gives no reason'}")

    arn = str(answer["tasks"][0]["taskArn"])
    log.info("Task %s runs %s", arn, container.command)
    return arn


def wait(
    client: Callable[[], Any],
    cluster: str,
    arn: str,
    poll: float,
    each: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Wait until the task has stopped, however long it takes. Returns ECS's description of it.

    `client` is called before every request, so that it can renew its credentials, and `each` after
    every response. `poll` is in seconds. A task that ECS no longer knows, which happens an hour
    after it stopped, raises TaskFailedError.
    """
    not_found = 0
    while True:
        answer = client().describe_tasks(cluster=cluster, tasks=[arn])
        task = next(iter(answer["tasks"]), None)

        not_found = 0 if task else not_found + 1
        if not_found > _MAX_TIMES_NOT_FOUND:
            raise TaskFailedError(f"ECS does not know task {arn}: {answer.get('failures')}")

        each()
        if task and task["lastStatus"] == "STOPPED":
            return dict(task)
        time.sleep(poll)


def check(task: dict[str, Any], name: str) -> None:
    """Raise TaskFailedError unless the task's container `name` has the exit code 0."""
    containers = (entry for entry in task.get("containers", []) if entry.get("name") == name)
    container: dict[str, Any] = next(containers, {})
    code = container.get("exitCode")
    if code == 0:
        return

    outcome = "stopped without an exit code" if code is None else f"exited with code {code}"
    reasons = [task.get("stopCode"), task.get("stoppedReason"), container.get("reason")]
    reason = "; ".join(filter(None, reasons)) or "ECS gives no reason"
    raise TaskFailedError(f"Container {name} {outcome}: {reason} ({task['taskArn']})")


def task_id(arn: str) -> str:
    """The last part of a task's ARN, which is part of the name of its log stream."""
    return arn.rpartition("/")[2]


class LogTail:
    """Reads a log stream, each time from where it stopped.

    A stream that does not exist (yet), or that may not be read, has no lines.
    """

    def __init__(self, logs: Callable[[], Any], group: str, stream: str) -> None:
        self._logs = logs
        self._group = group
        self._stream = stream
        self._token: dict[str, str] = {}
        self._warned = False

    def lines(self) -> Iterator[str]:
        """The lines written since the last call."""
        logs = self._logs()
        while True:
            try:
                page = logs.get_log_events(
                    logGroupName=self._group,
                    logStreamName=self._stream,
                    startFromHead=True,
                    **self._token,
                )
            except logs.exceptions.ResourceNotFoundException:
                return
            except logs.exceptions.ClientError as error:
                # The log is a convenience: being unable to show it must not fail the container.
                if not self._warned:
                    log.warning("The container's log cannot be shown: %s", error)
                self._warned = True
                return

            yield from (event["message"] for event in page["events"])

            # CloudWatch returns the same token again at the end of the stream.
            previous = self._token
            self._token = {"nextToken": page["nextForwardToken"]}
            if self._token == previous:
                return


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]
