"""
### dbt, configured by SSM parameters

Builds the whole dbt project in its container on ECS Fargate. Where to run it is read from SSM when
a run starts, never when Airflow parses this file: that happens every few seconds, and must not send
requests.

**What it shows.** The same configuration as in `dbt_snowflake_scd2`, but without a new deployment
when it changes: the task `read_parameters` passes it to the operator. The price: Terraform changes
the parameters before the new image is pushed, so a run in those minutes cannot pull its image. It
fails, and is retried until the image exists. DAGs that pin the task definition do not have this
problem, since they are uploaded last.

**How it is configured.** A deployment replaces the two marked values: the prefix of the parameters,
and their region.

**What it needs.** The parameters in `terraform/parameters.tf`, and permission to read them and to
run dbt tasks, which Terraform gives to its own MWAA.
"""

from datetime import timedelta

import pendulum
from airflow import DAG
from airflow.decorators import task
from airflow.providers.amazon.aws.operators.ecs import EcsRunTaskOperator

from dbt_deployment.fargate import container_overrides, network_configuration

AWS_REGION = "eu-central-1"  # cipipe: aws_region
PREFIX = "/dbt-local/"  # cipipe: parameter_prefix

NAMES = [
    "container_name",
    "ecs_cluster_name",
    "private_subnet_ids",
    "task_definition_arn",
    "task_security_group_ids",
]


@task(retries=2)
def read_parameters() -> dict[str, str | list[str]]:
    """The parameters by name; those of SSM's type StringList are lists."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    ssm = AwsBaseHook(client_type="ssm", region_name=AWS_REGION).get_conn()
    answer = ssm.get_parameters(Names=[PREFIX + name for name in NAMES])
    if answer["InvalidParameters"]:
        missing = ", ".join(answer["InvalidParameters"])
        raise LookupError(f"SSM has no parameters {missing}; terraform apply creates them")

    values: dict[str, str | list[str]] = {}
    for found in answer["Parameters"]:
        is_list = found["Type"] == "StringList"
        name = found["Name"].removeprefix(PREFIX)
        values[name] = found["Value"].split(",") if is_list else found["Value"]
    return values


with DAG(
    dag_id="dbt_ssm",
    description="Build the dbt project where SSM parameters say",
    doc_md=__doc__,
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={
        "owner": "data-engineering",
        "retries": 3,
        "retry_delay": timedelta(minutes=5),
        "execution_timeout": timedelta(hours=1),
    },
    tags=["dbt", "ssm"],
):
    parameters = read_parameters()
    EcsRunTaskOperator(
        task_id="build",
        region_name=AWS_REGION,
        cluster=parameters["ecs_cluster_name"],
        task_definition=parameters["task_definition_arn"],
        launch_type="FARGATE",
        overrides=container_overrides(parameters["container_name"], ["dbt", "build"]),
        network_configuration=network_configuration(
            parameters["private_subnet_ids"], parameters["task_security_group_ids"]
        ),
        reattach=True,
    )
