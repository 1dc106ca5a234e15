"""The helper that runs a container on Fargate, with a fake ECS client."""

from typing import Any

import pytest

from dbt_deployment import fargate
from dbt_deployment.fargate import Container, LogTail, TaskFailedError

ARN = "arn:aws:ecs:eu-central-1:111111111111:task/cluster/0123"
CONTAINER = Container(
    cluster="cluster",
    task_definition="dbt:7",
    name="dbt",
    subnets=["subnet-1"],
    security_groups=["sg-1"],
    command=["dbt", "build"],
    environment={"DBT_TARGET": "redshift"},
)


class Ecs:
    """A fake ECS that returns the given answers in order, and records the requests."""

    def __init__(
        self,
        *,
        running: list[str] | None = None,
        answer: Any = None,
        states: list[Any] | None = None,
    ) -> None:
        self.running, self.answer, self.states = running or [], answer, states or []
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def list_tasks(self, **request: Any) -> Any:
        self.asked.append(("list_tasks", request))
        return {"taskArns": self.running}

    def run_task(self, **request: Any) -> Any:
        self.asked.append(("run_task", request))
        return self.answer or {"tasks": [{"taskArn": ARN}], "failures": []}

    def describe_tasks(self, **request: Any) -> Any:
        self.asked.append(("describe_tasks", request))
        state = self.states.pop(0)
        return {
            "tasks": [state] if state else [],
            "failures": [] if state else [{"arn": ARN, "reason": "MISSING"}],
        }


def test_start_requests_one_private_task_with_the_overrides() -> None:
    ecs = Ecs()
    assert fargate.start(ecs, CONTAINER, "name", "token") == ARN
    assert ecs.asked == [
        ("list_tasks", {"cluster": "cluster", "startedBy": "name", "desiredStatus": "RUNNING"}),
        (
            "run_task",
            {
                "cluster": "cluster",
                "taskDefinition": "dbt:7",
                "launchType": "FARGATE",
                "count": 1,
                "startedBy": "name",
                "clientToken": "token",
                "networkConfiguration": {
                    "awsvpcConfiguration": {
                        "subnets": ["subnet-1"],
                        "securityGroups": ["sg-1"],
                        "assignPublicIp": "DISABLED",
                    }
                },
                "overrides": {
                    "containerOverrides": [
                        {
                            "name": "dbt",
                            "command": ["dbt", "build"],
                            "environment": [{"name": "DBT_TARGET", "value": "redshift"}],
                        }
                    ]
                },
            },
        ),
    ]


def test_start_reuses_the_task_of_an_earlier_try() -> None:
    ecs = Ecs(running=["arn:earlier"])
    assert fargate.start(ecs, CONTAINER, "name", "token") == "arn:earlier"
    assert [action for action, _ in ecs.asked] == ["list_tasks"]


def test_start_reports_why_ecs_started_nothing() -> None:
    ecs = Ecs(answer={"tasks": [], "failures": [{"reason": "RESOURCE:CPU", "detail": "none left"}]})
    with pytest.raises(TaskFailedError, match="ECS started no task: RESOURCE:CPU none left"):
        fargate.start(ecs, CONTAINER, "name", "token")


class Instance:
    def __init__(self, try_number: int, run_id: str = "run") -> None:
        self.dag_id, self.task_id, self.run_id, self.map_index = "dag", "build", run_id, -1
        self.try_number = try_number


def test_every_try_has_the_same_name_and_a_token_of_its_own() -> None:
    first, second, other = Instance(1), Instance(2), Instance(1, "another")
    assert fargate.name_of(first) == fargate.name_of(second) != fargate.name_of(other)
    assert len({fargate.token_of(instance) for instance in (first, second, other)}) == 3
    # The limits of `startedBy` and `clientToken`.
    assert len(fargate.name_of(first)) <= 36
    assert len(fargate.token_of(first)) <= 64


def test_wait_returns_when_the_task_has_stopped_and_calls_back_after_every_response() -> None:
    ecs = Ecs(
        states=[
            None,  # right after the start, ECS does not know the task
            {"lastStatus": "PENDING"},
            {"lastStatus": "RUNNING"},
            {"lastStatus": "STOPPED", "x": 1},
        ]
    )
    calls: list[int] = []
    task = fargate.wait(lambda: ecs, "cluster", ARN, 0, lambda: calls.append(1))
    assert task == {"lastStatus": "STOPPED", "x": 1}
    assert len(calls) == 4


def test_wait_gives_up_on_a_task_that_ecs_does_not_know() -> None:
    ecs = Ecs(states=[None] * 10)
    with pytest.raises(TaskFailedError, match=r"does not know task .*MISSING"):
        fargate.wait(lambda: ecs, "cluster", ARN, 0)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            {"containers": [{"name": "dbt", "exitCode": 1}]},
            "exited with code 1: ECS gives no reason",
        ),
        ({"containers": [{"name": "dbt"}]}, "stopped without an exit code"),
        ({"containers": []}, "stopped without an exit code"),
        ({}, "stopped without an exit code"),
        ({"containers": [{"name": "sidecar", "exitCode": 0}]}, "stopped without an exit code"),
        ({"containers": [{"name": "dbt", "exitCode": None}]}, "stopped without an exit code"),
        (
            {
                "stopCode": "TaskFailedToStart",
                "containers": [{"name": "dbt", "reason": "CannotPullContainerError"}],
            },
            "without an exit code: TaskFailedToStart; CannotPullContainerError",
        ),
    ],
)
def test_anything_but_exit_code_0_is_a_failure_with_its_reason(
    task: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskFailedError) as caught:
        fargate.check({"taskArn": ARN, **task}, "dbt")
    assert message in str(caught.value)
    assert ARN in str(caught.value)


def test_exit_code_0_is_success_whatever_a_sidecar_does() -> None:
    # Only the dbt container decides.
    fargate.check(
        {
            "taskArn": ARN,
            "containers": [{"name": "log", "exitCode": 137}, {"name": "dbt", "exitCode": 0}],
        },
        "dbt",
    )


class Logs:
    """A stream in pages, as CloudWatch returns them: the last token leads to itself."""

    class exceptions:  # noqa: N801 - boto3's name
        class ClientError(Exception):
            pass

        class ResourceNotFoundException(ClientError):
            pass

    def __init__(self) -> None:
        self.lines: list[str] | None = None
        self.denied = False

    def get_log_events(self, *, nextToken: str = "0", **request: Any) -> Any:  # noqa: N803
        assert request == {
            "logGroupName": "group",
            "logStreamName": "stream",
            "startFromHead": True,
        }
        if self.denied:
            raise self.exceptions.ClientError("AccessDenied")
        if self.lines is None:
            raise self.exceptions.ResourceNotFoundException
        start = int(nextToken)
        page = self.lines[start : start + 2]
        return {
            "events": [{"message": line} for line in page],
            "nextForwardToken": str(start + len(page)),
        }


def test_a_log_is_read_from_where_the_last_read_stopped() -> None:
    logs = Logs()
    tail = LogTail(lambda: logs, "group", "stream")
    # Before the container writes its first line, the stream does not exist.
    assert list(tail.lines()) == []
    logs.lines = ["a", "b", "c"]
    assert list(tail.lines()) == ["a", "b", "c"]
    assert list(tail.lines()) == []
    logs.lines.append("d")
    assert list(tail.lines()) == ["d"]


def test_a_log_that_may_not_be_read_causes_one_warning_and_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logs = Logs()
    logs.denied = True
    tail = LogTail(lambda: logs, "group", "stream")
    assert [*tail.lines(), *tail.lines()] == []
    assert [record.getMessage() for record in caplog.records] == [
        "The container's log cannot be shown: AccessDenied"
    ]
