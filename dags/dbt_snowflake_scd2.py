"""
### Employees, today and over time

Runs dbt in its container on ECS Fargate, once a day:

1. `run_emp_fact` builds the table `emp_fact`.
2. `test_emp_fact` tests it and everything that it is built from.
3. `snapshot_scd_emp` records the changes since the last run in `scd_emp`, a slowly changing
   dimension of type 2.

A snapshot runs only on data that passed its tests, and never in parallel with another one.

**What it shows.** The provider's own operator with a pinned task definition: `TASK_DEFINITION` is
one revision, which names one image, so a run uses what was deployed with this file and nothing
newer. A task that stops without an exit code fails.

**How it is configured.** A deployment replaces each marked value with the Terraform output that its
marker names; the values below are for a laptop. The task definition selects the warehouse:
`task_environment` in Terraform sets `DBT_TARGET` and the `SNOWFLAKE_…` variables of
`dbt/profiles.yml`, and the password comes from the secret. The image needs the adapter: add it to
the build argument `DBT_ADAPTERS`.

**What it needs.** The seeds, loaded once (`dbt seed`). On DuckDB, the default target, a volume that
outlives the task.
"""

from datetime import timedelta

import pendulum
from airflow import DAG
from airflow.providers.amazon.aws.operators.ecs import EcsRunTaskOperator

from dbt_deployment.fargate import container_overrides, network_configuration

AWS_REGION = "eu-central-1"  # cipipe: aws_region
CLUSTER = "local"  # cipipe: ecs_cluster_name
TASK_DEFINITION = "dbt-local:1"  # cipipe: task_definition_arn
CONTAINER = "dbt"  # cipipe: container_name
SUBNETS: list[str] = ["subnet-local"]  # cipipe: private_subnet_ids
SECURITY_GROUPS: list[str] = ["sg-local"]  # cipipe: task_security_group_ids
LOG_GROUP = "/ecs/dbt-local"  # cipipe: log_group_name


def dbt(task_id: str, *arguments: str) -> EcsRunTaskOperator:
    return EcsRunTaskOperator(
        task_id=task_id,
        region_name=AWS_REGION,
        cluster=CLUSTER,
        task_definition=TASK_DEFINITION,
        launch_type="FARGATE",
        overrides=container_overrides(CONTAINER, ["dbt", *arguments]),
        network_configuration=network_configuration(SUBNETS, SECURITY_GROUPS),
        awslogs_group=LOG_GROUP,
        awslogs_region=AWS_REGION,
        awslogs_stream_prefix=f"{CONTAINER}/{CONTAINER}",
        awslogs_fetch_interval=timedelta(seconds=5),
        reattach=True,  # after a lost worker, the next try waits for the running task
    )


with DAG(
    dag_id="dbt_snowflake_scd2",
    description="Build emp_fact, then record its history in scd_emp",
    doc_md=__doc__,
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={
        "owner": "data-engineering",
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        "execution_timeout": timedelta(hours=1),
    },
    tags=["dbt", "snowflake", "scd2"],
):
    run = dbt("run_emp_fact", "run", "--select", "emp_fact")
    test = dbt("test_emp_fact", "test", "--select", "+emp_fact")
    snapshot = dbt("snapshot_scd_emp", "snapshot", "--select", "scd_emp")
    run >> test >> snapshot
