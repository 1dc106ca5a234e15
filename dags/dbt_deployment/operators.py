"""`FargateOperator` runs a container, optionally as a role, shows its log, and fails unless the
container exits with code 0.

The provider's `EcsRunTaskOperator` can only use a role through an Airflow connection that somebody
creates by hand, and its versions for Airflow 2.10 and 3 differ in when they stop the task that they
started.
"""

from typing import Any

from airflow.models import BaseOperator
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

from dbt_deployment import fargate
from dbt_deployment.clients import Clients


class FargateOperator(BaseOperator):
    """Run one container on ECS Fargate.

    `role_arn` is used for all requests; with None, Airflow's own role is. With `log_group` None, no
    log is shown. A try that finds the task of an earlier one still running waits for that task. If
    the operator is killed or cleared, or exceeds its time limit, it stops the task.
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

        # For `on_kill`, which runs while `execute` is waiting.
        self._clients: Clients | None = None
        self._arn: str | None = None

    def execute(self, context: Any) -> str:
        instance = context["ti"]
        session = AwsBaseHook(region_name=self.region).get_session(region_name=self.region)
        clients = Clients(
            session,
            region=self.region,
            role_arn=self.role_arn,
            session_name=f"airflow-{instance.task_id}",
        )
        container = fargate.Container(
            cluster=self.cluster,
            task_definition=self.task_definition,
            name=self.container,
            subnets=self.subnets,
            security_groups=self.security_groups,
            command=self.command,
            environment=self.environment,
        )

        self._clients = clients
        arn = fargate.start(
            clients("ecs"),
            container,
            name=fargate.name_of(instance),
            token=fargate.token_of(instance),
        )
        self._arn = arn

        task = fargate.wait(
            lambda: clients("ecs"),
            cluster=self.cluster,
            arn=arn,
            poll=self.poll_seconds,
            each=self._log_shower(clients, arn),
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

    def _log_shower(self, clients: Clients, arn: str) -> Any:
        """A function that copies new lines of the container's log into Airflow's log."""
        if self.log_group is None:
            return lambda: None

        # The awslogs driver names a stream PREFIX/CONTAINER/TASK; Terraform sets the prefix to the
        # container's name.
        stream = f"{self.container}/{self.container}/{fargate.task_id(arn)}"
        tail = fargate.LogTail(lambda: clients("logs"), self.log_group, stream)

        def show() -> None:
            for line in tail.lines():
                self.log.info("%s | %s", self.container, line)

        return show
