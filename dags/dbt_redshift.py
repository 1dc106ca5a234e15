"""
### dbt on Redshift, as a service role

Builds the whole dbt project in Redshift, in its container on ECS Fargate, and reports the result to
a Slack channel.

**What it shows.** `build` assumes the dbt service role, and starts, watches and stops the task with
only that role's permissions. It waits, shows dbt's output, reads the exit code and the reason why
the task stopped, and fails unless the exit code is 0. A missing exit code, from a container that
never ran or was stopped early, is a failure. Callbacks report success, and failure after the last
try, to Slack.

**How it is configured.** A deployment replaces each marked value with the Terraform output that its
marker names; the values below are for a laptop. `task_environment` in Terraform sets the
`REDSHIFT_…` variables of `dbt/profiles.yml`, the password comes from the secret, and
`task_egress_ports` must include Redshift's port 5439. The image needs the adapter: add
dbt-redshift to the build argument `DBT_ADAPTERS`.

**What it needs.** Airflow's role must be allowed to assume the service role. Terraform allows that
for its own MWAA; `airflow_role_arn` selects another role. For Slack, an Airflow connection
`slack_webhook` (see `dbt_deployment/slack.py`).
"""

from datetime import timedelta

import pendulum
from airflow import DAG

from dbt_deployment.operators import FargateOperator
from dbt_deployment.slack import notify_failure, notify_success

AWS_REGION = "eu-central-1"  # cipipe: aws_region
SERVICE_ROLE = "arn:aws:iam::000000000000:role/dbt-local"  # cipipe: dbt_service_role_arn
CLUSTER = "local"  # cipipe: ecs_cluster_name
TASK_DEFINITION = "dbt-local:1"  # cipipe: task_definition_arn
CONTAINER = "dbt"  # cipipe: container_name
SUBNETS: list[str] = ["subnet-local"]  # cipipe: private_subnet_ids
SECURITY_GROUPS: list[str] = ["sg-local"]  # cipipe: task_security_group_ids
LOG_GROUP = "/ecs/dbt-local"  # cipipe: log_group_name

with DAG(
    dag_id="dbt_redshift",
    description="Build the dbt project in Redshift, as the dbt service role",
    doc_md=__doc__,
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={
        "owner": "data-engineering",
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        "execution_timeout": timedelta(hours=3),
        "on_success_callback": notify_success,
        "on_failure_callback": notify_failure,
    },
    tags=["dbt", "redshift"],
):
    FargateOperator(
        task_id="build",
        region=AWS_REGION,
        role_arn=SERVICE_ROLE,
        cluster=CLUSTER,
        task_definition=TASK_DEFINITION,
        container=CONTAINER,
        command=["dbt", "build"],
        environment={"DBT_TARGET": "redshift"},
        subnets=SUBNETS,
        security_groups=SECURITY_GROUPS,
        log_group=LOG_GROUP,
    )
