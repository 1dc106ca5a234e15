"""
### Employees, today and over time

Runs dbt in its container on ECS Fargate, once a day:

1. `build_emp_fact` loads the seeds, builds the table `emp_fact` and tests it.
2. `snapshot_scd_emp` records in `scd_emp` what changed since the last run: a slowly changing dimension of type 2.

A snapshot runs only on data that passed its tests, and never beside another one. History is kept where dbt's target is kept:
on DuckDB, the default, that is a file, so it needs a volume that outlives the task; a warehouse needs nothing.

The values below serve on a laptop. Deploying replaces each marked one by the Terraform output that its marker names.
"""

from datetime import timedelta

import pendulum
from airflow import DAG
from airflow.providers.amazon.aws.operators.ecs import EcsRunTaskOperator

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
        overrides={"containerOverrides": [{"name": CONTAINER, "command": ["dbt", *arguments]}]},
        network_configuration={
            "awsvpcConfiguration": {
                "subnets": SUBNETS,
                "securityGroups": SECURITY_GROUPS,
                "assignPublicIp": "DISABLED",
            }
        },
        awslogs_group=LOG_GROUP,
        awslogs_region=AWS_REGION,
        awslogs_stream_prefix=f"{CONTAINER}/{CONTAINER}",
    )


with DAG(
    dag_id="dbt_emp_scd2",
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
    tags=["dbt", "scd2"],
):
    build = dbt("build_emp_fact", "build", "--select", "+emp_fact")
    snapshot = dbt("snapshot_scd_emp", "snapshot", "--select", "scd_emp")
    build >> snapshot
