"""All runs of the reference DAGs by one Airflow: what is run, with which settings, and what came of
it.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.clone import Aws
from support.fargate import Fargate
from support.tools import ROOT

# Name, DAG, and how its containers end (`fargate.Fargate`).
RUNS = [
    ("snowflake", "dbt_snowflake_scd2", "docker"),
    ("snowflake-exit-2", "dbt_snowflake_scd2", "exit-2"),
    ("redshift", "dbt_redshift", "exit-0"),
    ("redshift-no-exit-code", "dbt_redshift", "no-exit-code"),
    ("redshift-no-slack", "dbt_redshift", "exit-0"),
    ("redshift-timeout", "dbt_redshift", "never"),
    ("ssm", "dbt_ssm", "exit-0"),
    ("ssm-no-exit-code", "dbt_ssm", "no-exit-code"),
    ("athena-new", "athena_elt", "exit-0"),
    ("athena-again", "athena_elt", "exit-0"),
    ("emr", "emr_elt", "exit-0"),
    ("emr-step-fails", "emr_elt", "exit-2"),
    ("emr-no-cluster", "emr_elt", "no-cluster"),
    ("emr-lost-answer", "emr_elt", "lost-answer"),
]

NOWHERE = "http://127.0.0.1:9"

VARIABLES: dict[str, dict[str, str]] = {
    "2.10": {},  # the defaults
    "3": {
        "AIRFLOW_VAR_ATHENA_ELT_DATABASE": "movies_of_three",
        "AIRFLOW_VAR_ATHENA_ELT_GENRE": "Children's / Family",
    },
}


@dataclass(frozen=True)
class Done:
    """All runs of one Airflow, what they asked AWS for, and what they printed."""

    version: str
    runs: dict[str, Any]
    fargate: Fargate
    output: str

    def state(self, run: str) -> str:
        return str(self.runs[run]["state"])

    def tasks(self, run: str) -> dict[str, str]:
        return dict(self.runs[run]["tasks"])

    def asked(self, run: str, action: str) -> list[dict[str, Any]]:
        return [call.body for call in self.fargate.asked(run, action)]

    def messages(self, run: str) -> list[str]:
        return [text for of, text in self.fargate.messages if of == run]


@contextlib.contextmanager
def airflow_role(aws: Aws) -> Iterator[dict[str, str]]:
    """The environment of a session of MWAA's role, which the sandbox's Terraform leaves out
    together with MWAA.
    """
    account, name = aws.sandbox.state.account.id, "dbt-deployment-dev-mwaa"
    principal = {"AWS": f"arn:aws:iam::{account}:root"}
    trust = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    iam = aws.client("iam")
    made = iam.create_role(
        RoleName=name, Path="/dbt-deployment/dev/", AssumeRolePolicyDocument=document
    )
    # Its own policies are tested with MWAA's stub. Here, the sandbox does not
    # know all services that the DAGs use.
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    iam.put_role_policy(RoleName=name, PolicyName="everything", PolicyDocument=policy)
    try:
        answer = aws.client("sts").assume_role(
            RoleArn=made["Role"]["Arn"], RoleSessionName="airflow"
        )
        keys = answer["Credentials"]
        yield {
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
        }
    finally:
        iam.delete_role_policy(RoleName=name, PolicyName="everything")
        iam.delete_role(RoleName=name)


def run_all(version: str, python: Path, dags: Path, fargate: Fargate, keys: dict[str, str]) -> Done:
    """Run the DAGs of a folder, with these keys; its parent gets a folder for this Airflow's own
    files.
    """
    work = dags.parent / f"airflow-{version}"
    work.mkdir()
    slack = {"conn_type": "http", "host": f"{fargate.url}/slack", "password": "T0/B0/not-a-secret"}
    env = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW_", "AWS_"))
        },
        **VARIABLES[version],
        **keys,
        "AIRFLOW_HOME": str(work),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AWS_ENDPOINT_URL": fargate.url,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": "",
    }
    runs = [
        {
            "name": name,
            "dag": dag,
            "ending": ending,
            "timeout": 10 if name == "redshift-timeout" else None,
            "retries": {"create_cluster": 2} if name == "emr-lost-answer" else {},
            "env": {
                "AIRFLOW_CONN_SLACK_WEBHOOK": json.dumps(
                    slack | ({"host": NOWHERE} if "no-slack" in name else {})
                )
            },
        }
        for name, dag, ending in RUNS
    ]
    (work / "runs.json").write_text(json.dumps(runs))
    status, text = fargate.contain(image_of(fargate.aws), ["dbt", "seed"])
    assert status == 0, text
    script = [
        ROOT / "tests/support/airflow_child.py",
        dags,
        work / "runs.json",
        work / "answer.json",
    ]
    output = ""
    for arguments in (["-m", "airflow", "db", "migrate"], list(map(str, script))):
        ended = subprocess.run(
            [python, "-P", *arguments],
            env=env,
            cwd=work,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        output = ended.stdout
        assert ended.returncode == 0, output[-20000:]
    answer = json.loads((work / "answer.json").read_text())
    assert answer["airflow"].startswith(f"{version}.")
    return Done(version, answer["runs"], fargate, output)


def image_of(aws: Aws) -> str:
    """The image that the deployed task definition names."""
    described = aws.client("ecs").describe_task_definition(
        taskDefinition=aws.outputs()["task_definition_arn"]
    )
    return str(described["taskDefinition"]["containerDefinitions"][0]["image"])


def clear(aws: Aws) -> None:
    """What the runs leave behind would stop the destroy that is tested later, and rightly so."""
    bucket, s3 = aws.outputs()["data_lake_bucket"], aws.client("s3")
    for key in aws.keys(bucket):
        s3.delete_object(Bucket=bucket, Key=key)
    for database in (
        aws.outputs()["athena_database_name"],
        VARIABLES["3"]["AIRFLOW_VAR_ATHENA_ELT_DATABASE"],
    ):
        aws.client("athena").start_query_execution(
            QueryString=f"DROP DATABASE IF EXISTS `{database}`"
        )
    ec2 = aws.client("ec2")
    for interface in ec2.describe_network_interfaces()["NetworkInterfaces"]:
        if interface["Description"] == "moto ECS":
            ec2.delete_network_interface(NetworkInterfaceId=interface["NetworkInterfaceId"])
