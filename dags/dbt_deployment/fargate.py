"""Run one container on ECS Fargate and say how it ended, with nothing but a boto3 client; the
scheduler is not needed.

A task that stopped counts as done only if its container says so itself, with the exit code 0. ECS
leaves the code out when a container never ran or was torn down around it: image not pulled, secret
without a value, capacity withdrawn.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)


class TaskFailedError(RuntimeError):
    """The task did not end with the exit code 0, or did not start."""


@dataclass(frozen=True)
class Container:
    """What to run, and where. `task_definition` is a revision's ARN; `environment` is added to what
    the revision sets.
    """

    cluster: str
    task_definition: str
    name: str
    subnets: list[str]
    security_groups: list[str]
    command: list[str]
    environment: dict[str, str]


def network_configuration(subnets: list[str], security_groups: list[str]) -> dict[str, Any]:
    """Where a Fargate task runs, as ECS wants to have it: private, without a public address."""
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
    """What one run changes of the task definition."""
    variables = [{"name": key, "value": value} for key, value in (environment or {}).items()]
    return {"containerOverrides": [{"name": name, "command": command, "environment": variables}]}


def name_of(instance: Any) -> str:
    """A name for `startedBy`, the same for every try of a task instance: by it a later try finds
    what runs already.
    """
    return _digest(instance.dag_id, instance.run_id, instance.task_id, instance.map_index)


def token_of(instance: Any) -> str:
    """What makes one try's request to start a task idempotent."""
    return _digest(name_of(instance), instance.try_number)


def start(ecs: Any, container: Container, name: str, token: str) -> str:
    """Start the container, or take the task of that name which an earlier try has left running; the
    task's ARN.

    `token` makes the request idempotent: sent again, because the answer was lost, it starts nothing
    more.
    """
    running = ecs.list_tasks(cluster=container.cluster, startedBy=name, desiredStatus="RUNNING")[
        "taskArns"
    ]
    if running:
        log.info("Task %s runs already, from an earlier try", running[0])
        return str(running[0])
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
    if not answer["tasks"]:
        reasons = [
            f"{entry.get('reason')} {entry.get('detail', '')}".strip()
            for entry in answer["failures"]
        ]
        raise TaskFailedError(f"ECS started no task: {'; '.join(reasons) or 'it does not say why'}")
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
    """Wait until the task has stopped, however long it takes; the task as ECS describes it then.

    `client` is asked before every request, so that it can renew its credentials; `each` is called
    after every answer. A task that ECS does not know any more, an hour after it stopped, raises
    TaskFailedError.
    """
    unseen = 0
    while True:
        answer = client().describe_tasks(cluster=cluster, tasks=[arn])
        task = next(iter(answer["tasks"]), None)
        unseen = 0 if task else unseen + 1
        if unseen > 5:  # right after the start ECS may not know it yet
            raise TaskFailedError(f"ECS does not know task {arn}: {answer.get('failures')}")
        each()
        if task and task["lastStatus"] == "STOPPED":
            return dict(task)
        time.sleep(poll)


def check(task: dict[str, Any], name: str) -> None:
    """Raise TaskFailedError unless the container of that name ended with the exit code 0."""
    containers = (entry for entry in task.get("containers", []) if entry.get("name") == name)
    container: dict[str, Any] = next(containers, {})
    code = container.get("exitCode")
    if code == 0:
        return
    ended = f"ended with exit code {code}" if code is not None else "stopped without an exit code"
    reasons = [task.get("stopCode"), task.get("stoppedReason"), container.get("reason")]
    raise TaskFailedError(
        f"Container {name} {ended}: {'; '.join(filter(None, reasons)) or 'ECS gives no reason'} ({task['taskArn']})"
    )


def task_id(arn: str) -> str:
    """The last part of a task's ARN, which names its log stream."""
    return arn.rpartition("/")[2]


class LogTail:
    """A log stream, read on from where it was left. One that is not there (yet), or not to be read,
    has no lines.
    """

    def __init__(self, logs: Callable[[], Any], group: str, stream: str) -> None:
        self._logs, self._group, self._stream = logs, group, stream
        self._token: dict[str, str] = {}
        self._refused = False

    def lines(self) -> Iterator[str]:
        """The lines that came since the last time."""
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
            except (
                logs.exceptions.ClientError
            ) as error:  # never a reason to give up on the container
                if not self._refused:
                    log.warning("The container's log cannot be shown: %s", error)
                self._refused = True
                return
            yield from (event["message"] for event in page["events"])
            before, self._token = self._token, {"nextToken": page["nextForwardToken"]}
            if self._token == before:  # by this CloudWatch says that the end is reached
                return


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]
