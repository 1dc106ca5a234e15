"""
### Movies with their mean rating, on a cluster of EMR

The same data as in `athena_elt`, transformed by Hive and Trino on a cluster that lives for one run.

1. `create_cluster` starts a cluster, or finds the one that an earlier try of this run has started.
2. `add_steps` hands it two steps: Hive loads the raw CSV files into a table of Parquet files, and
   Trino computes the mean rating of each movie from it, into the partition of the run's day.
3. `wait_for_hive` and `wait_for_trino` wait for them. If the first fails, the second is cancelled.
4. `terminate_cluster` terminates the cluster, whatever happened after its start.

**What it shows.** A teardown: the cluster goes, also when a step failed, and the run still fails
then. The provider's operators for EMR, the same on Airflow 2.10 and 3. A cluster that nobody
terminates, because Airflow is gone or never saw its id, terminates itself after an idle hour.

**How it is configured.** A deployment replaces each marked value with the Terraform output that its
marker names; the region is that of Airflow's connection, on MWAA its own. The Airflow Variables
`emr_elt_release` and `emr_elt_core_nodes` are optional.

**What it needs.** `create_emr` in Terraform, and the data in the lake that `athena_elt` needs.
"""

from datetime import timedelta

import pendulum
from airflow import DAG
from airflow.decorators import task
from airflow.providers.amazon.aws.operators.emr import (
    EmrAddStepsOperator,
    EmrTerminateJobFlowOperator,
)
from airflow.providers.amazon.aws.sensors.emr import EmrStepSensor

LAKE = "data-lake-local"  # cipipe: data_lake_bucket
DATABASE = "movies_local"  # cipipe: athena_database_name
SUBNETS: list[str] = ["subnet-local"]  # cipipe: private_subnet_ids
SECURITY_GROUPS: list[str] = []  # cipipe: emr_security_group_ids
SERVICE_ROLE = "arn:aws:iam::000000000000:role/emr-local"  # cipipe: emr_service_role_arn
INSTANCE_PROFILE = "emr-local"  # cipipe: emr_instance_profile
TAGS: dict[str, str] = {"project": "local", "environment": "local"}  # cipipe: tags

# States in which a cluster of this run can still be used.
ALIVE = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"]

# Hive's and Trino's tables are those of Glue, where Athena finds them as well.
GLUE = "com.amazonaws.glue.catalog.metastore.AWSGlueDataCatalogHiveClientFactory"

CLUSTER = "{{ ti.xcom_pull(task_ids='create_cluster') }}"

# The stack is part of it: another environment in this account has runs with the same id.
NAME = f"{TAGS['project']}-{TAGS['environment']} emr_elt {{{{ run_id }}}}"


def step(name: str, *arguments: str) -> dict[str, object]:
    """A command on the primary node. If it fails, the steps after it are cancelled."""
    return {
        "Name": name,
        "ActionOnFailure": "CANCEL_AND_WAIT",
        "HadoopJarStep": {"Jar": "command-runner.jar", "Args": list(arguments)},
    }


STEPS = [
    step("hive", "hive", "-e", "{% include 'sql/emr_elt_load.sql' %}"),
    step(
        "trino",
        "trino-cli",
        "--catalog=hive",
        f"--schema={DATABASE}",
        "--execute={% include 'sql/emr_elt_rate.sql' %}",
    ),
]


def job_flow(name: str, release: str, core_nodes: int) -> dict[str, object]:
    """The cluster, for elasticmapreduce:RunJobFlow."""
    groups = [{"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}]
    if core_nodes:
        groups.append(
            {"InstanceRole": "CORE", "InstanceType": "m5.xlarge", "InstanceCount": core_nodes}
        )
    network: dict[str, object] = {"Ec2SubnetId": SUBNETS[0]}
    if SECURITY_GROUPS:
        names = (
            "EmrManagedMasterSecurityGroup",
            "EmrManagedSlaveSecurityGroup",
            "ServiceAccessSecurityGroup",
        )
        network |= dict(zip(names, SECURITY_GROUPS, strict=True))

    return {
        "Name": name,
        "ReleaseLabel": release,
        "LogUri": f"s3://{LAKE}/emr/logs/",
        "Applications": [{"Name": "Hadoop"}, {"Name": "Hive"}, {"Name": "Trino"}],
        "Configurations": [
            {
                "Classification": "hive-site",
                "Properties": {"hive.metastore.client.factory.class": GLUE},
            },
            {
                "Classification": "trino-connector-hive",
                "Properties": {
                    "hive.metastore": "glue",
                    # The tables have a location, which makes them external ("non-managed").
                    "hive.non-managed-table-writes-enabled": "true",
                    # A run that is repeated replaces its partition.
                    "hive.insert-existing-partitions-behavior": "OVERWRITE",
                },
            },
        ],
        "Instances": {
            "InstanceGroups": groups,
            "KeepJobFlowAliveWhenNoSteps": True,
            "TerminationProtected": False,
            **network,
        },
        "AutoTerminationPolicy": {"IdleTimeout": 3600},
        "ServiceRole": SERVICE_ROLE,
        "JobFlowRole": INSTANCE_PROFILE,
        "Tags": [{"Key": key, "Value": value} for key, value in TAGS.items()],
    }


@task(retries=2)
def create_cluster(name: str, release: str, core_nodes: str) -> str:
    """The id of this run's cluster.

    EMR starts a second cluster if the request is repeated, so a cluster of this name is looked for
    first: an earlier try may have started it and died. For the same reason the client must not
    repeat the request by itself when the answer is lost.
    """
    from airflow.providers.amazon.aws.hooks.emr import EmrHook
    from botocore.config import Config

    found = EmrHook().get_cluster_id_by_name(name, ALIVE)
    if found:
        return str(found)
    emr = EmrHook(config=Config(retries={"total_max_attempts": 1})).get_conn()
    answer = emr.run_job_flow(**job_flow(name, release, int(core_nodes)))
    return str(answer["JobFlowId"])


def wait_for(name: str, number: int) -> EmrStepSensor:
    return EmrStepSensor(
        task_id=f"wait_for_{name}",
        job_flow_id=CLUSTER,
        step_id=f"{{{{ ti.xcom_pull(task_ids='add_steps')[{number}] }}}}",
        mode="reschedule",  # a cluster takes minutes to start, and nobody has to wait for it
        poke_interval=30,
        timeout=timedelta(hours=2).total_seconds(),
        retries=0,  # the step is over, and another look changes nothing
    )


with DAG(
    dag_id="emr_elt",
    description="Load movies with Hive and rate them with Trino, on a cluster of its own",
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
    },
    user_defined_macros={"lake": LAKE, "database": DATABASE},
    tags=["emr", "elt"],
):
    cluster = create_cluster(
        NAME,
        "{{ var.value.get('emr_elt_release', 'emr-7.9.0') }}",
        "{{ var.value.get('emr_elt_core_nodes', '1') }}",
    )
    add_steps = EmrAddStepsOperator(
        task_id="add_steps",
        job_flow_id=CLUSTER,
        steps=STEPS,
        retries=0,  # a repeated request would add the steps twice
    )
    terminate_cluster = EmrTerminateJobFlowOperator(
        task_id="terminate_cluster", job_flow_id=CLUSTER
    ).as_teardown(setups=cluster)

    waits = [wait_for("hive", 0), wait_for("trino", 1)]
    cluster >> add_steps >> waits[0] >> waits[1] >> terminate_cluster
