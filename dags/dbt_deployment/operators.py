"""`FargateOperator`: run a container, as a role if need be, show its log, and fail unless it ended
with the exit code 0.

The provider's `EcsRunTaskOperator` takes a role only from an Airflow connection that somebody has
to make by hand, and differs between the versions that run on Airflow 2.10 and 3 in when it stops
what it started.
"""

from typing import Any

from airflow.models import BaseOperator
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

from dbt_deployment import fargate
from dbt_deployment.clients import Clients


class FargateOperator(BaseOperator):
    """`role_arn` is assumed for all of it; None stays with Airflow's own role. `log_group` None
    shows no log.

    A try that finds the task of an earlier one still running waits for that one. Killed, cleared or
    out of time, the operator stops the task.
    """

    template_fields = ("cluster", "task_definition", "command", "environment", "role_arn")
    ui_color = "#f0ede4"

    def __init__(
        self,
        *,
        region: str,
        cluster: str,
        task_definition: str,
        container: str,
        command: list[str],
        subnets: list[str],
        security_groups: list[str],
        environment: dict[str, str] | None = None,
        role_arn: str | None = None,
        log_group: str | None = None,
        poll_seconds: float = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.region = region
        self.cluster = cluster
        self.task_definition = task_definition
        self.container = container
        self.command = command
        self.subnets = subnets
        self.security_groups = security_groups
        self.environment = environment or {}
        self.role_arn = role_arn
        self.log_group = log_group
        self.poll_seconds = poll_seconds
        self._clients: Clients | None = None
        self._arn: str | None = None

    def execute(self, context: Any) -> str:
        instance = context["ti"]
        session = AwsBaseHook(region_name=self.region).get_session(region_name=self.region)
        clients = Clients(session, self.region, self.role_arn, f"airflow-{instance.task_id}")
        container = fargate.Container(
            self.cluster,
            self.task_definition,
            self.container,
            self.subnets,
            self.security_groups,
            self.command,
            self.environment,
        )
        self._clients = clients
        arn = self._arn = fargate.start(
            clients("ecs"), container, fargate.name_of(instance), fargate.token_of(instance)
        )
        task = fargate.wait(
            lambda: clients("ecs"), self.cluster, arn, self.poll_seconds, self._shower(clients, arn)
        )
        self._arn = None
        fargate.check(task, self.container)
        return arn

    def on_kill(self) -> None:
        if self._clients is not None and self._arn is not None:
            self.log.info("Stopping task %s", self._arn)
            self._clients("ecs").stop_task(
                cluster=self.cluster, task=self._arn, reason="Airflow no longer waits for it"
            )

    def _shower(self, clients: Clients, arn: str) -> Any:
        """A function that puts into Airflow's log what the container has written since it was last
        called.
        """
        if self.log_group is None:
            return lambda: None
        stream = f"{self.container}/{self.container}/{fargate.task_id(arn)}"
        tail = fargate.LogTail(lambda: clients("logs"), self.log_group, stream)

        def show() -> None:
            for line in tail.lines():
                self.log.info("%s | %s", self.container, line)

        return show
