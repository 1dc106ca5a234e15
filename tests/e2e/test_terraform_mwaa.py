"""The stack with `create_mwaa`, which is off by default, applied, changed and destroyed by real
Terraform: MWAA's API is a stub, all else is moto's.

Airflow's role is then asked what the DAG `athena_elt` needs, and what it must not do.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from cipipe.sandbox.aws.iam.evaluation import Need, Permissions, refusal
from support import servers
from support.mwaa_api import ACCOUNT, REGION, MwaaApi
from support.tools import ROOT, require

NAME = "movies-dev"
VARIABLES = {
    "project": "movies",
    "environment": "dev",
    "region": REGION,
    "account_id": ACCOUNT,
    "image_tag": "0" * 20,
    "sandbox": "true",
    "create_mwaa": "true",
    "alarm_emails": '["data@example.com"]',
}

# The sandbox has no MWAA; here it has one.
OVERRIDE = """
terraform {
  backend "local" {}
}

locals {
  create_mwaa = true
}

provider "aws" {
  endpoints {
    mwaa = "http://mwaa.test"
  }
}
"""

BUCKET = f"arn:aws:s3:::{NAME}-lake-{ACCOUNT}"
ATHENA = f"arn:aws:athena:{REGION}:{ACCOUNT}"
GLUE = f"arn:aws:glue:{REGION}:{ACCOUNT}"
DATABASE = "movies_dev_movies"

# What the operators and hooks of the DAG call, and Athena on their behalf.
ALLOWED = [
    ("athena:GetDatabase", f"{ATHENA}:datacatalog/AwsDataCatalog"),
    *(
        (f"athena:{operation}", f"{ATHENA}:workgroup/{NAME}")
        for operation in ("StartQueryExecution", "GetQueryExecution", "StopQueryExecution")
    ),
    ("glue:GetDatabase", f"{GLUE}:database/{DATABASE}"),
    ("glue:CreateDatabase", f"{GLUE}:database/{DATABASE}"),
    ("glue:GetDatabase", f"{GLUE}:database/default"),
    ("glue:CreateTable", f"{GLUE}:table/{DATABASE}/movies"),
    ("glue:GetTable", f"{GLUE}:table/{DATABASE}/ratings"),
    ("glue:UpdateTable", f"{GLUE}:table/{DATABASE}/genre"),
    ("s3:GetBucketLocation", BUCKET),
    ("s3:ListBucket", BUCKET),
    ("s3:GetObject", f"{BUCKET}/raw/movies/movies.csv"),
    ("s3:PutObject", f"{BUCKET}/athena-results/1.txt"),
    ("s3:PutObject", f"{BUCKET}/staging/comedy/1.csv"),
    ("s3:DeleteObject", f"{BUCKET}/staging/comedy/1.csv"),
    ("s3:PutObject", f"{BUCKET}/exports/comedy.csv"),
]
REFUSED = [
    ("athena:StartQueryExecution", f"{ATHENA}:workgroup/primary"),
    ("athena:UpdateWorkGroup", f"{ATHENA}:workgroup/{NAME}"),
    ("athena:GetDatabase", f"{ATHENA}:datacatalog/other"),
    ("glue:CreateTable", f"{GLUE}:table/default/movies"),
    ("glue:GetTable", f"{GLUE}:table/sales/orders"),
    ("glue:DeleteTable", f"{GLUE}:table/{DATABASE}/movies"),
    ("glue:DeleteDatabase", f"{GLUE}:database/{DATABASE}"),
    ("glue:GetConnection", f"{GLUE}:connection/warehouse"),
    ("s3:PutObject", f"{BUCKET}/raw/movies/movies.csv"),
    ("s3:DeleteObject", f"{BUCKET}/raw/movies/movies.csv"),
    ("s3:GetObject", f"{BUCKET}/elsewhere/1.csv"),
    ("s3:DeleteBucket", BUCKET),
    ("s3:GetObject", "arn:aws:s3:::somebody-elses/1.csv"),
    ("secretsmanager:GetSecretValue", f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:x"),
]


@dataclass(frozen=True)
class Root:
    """The repository's Terraform root with its state in a file."""

    folder: Path
    url: str
    proxy: str
    mwaa: MwaaApi

    def terraform(self, *arguments: str, **variables: str) -> str:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "TF_VAR_"))
        }
        env = {
            **kept,
            **{f"TF_VAR_{name}": value for name, value in {**VARIABLES, **variables}.items()},
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "example",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_STS": self.url,
            "HTTP_PROXY": self.proxy,
            "NO_PROXY": "127.0.0.1,localhost",
        }
        argv = [str(require("terraform", "the MWAA stack")), *arguments]
        done = subprocess.run(
            argv, cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        return done.stdout

    def changed(self) -> set[str]:
        """The types of resources that another apply would change."""
        self.terraform("plan", "-input=false", "-out=again")
        changes = json.loads(self.terraform("show", "-json", "again"))["resource_changes"]
        return {one["type"] for one in changes if one["change"]["actions"] != ["no-op"]}

    def client(self, service: str) -> Any:
        session: Any = boto3.Session("AKIAEXAMPLE", "example", region_name=REGION)
        return session.client(service, endpoint_url=self.url)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    require("terraform", "the MWAA stack")
    folder = tmp_path_factory.mktemp("mwaa") / "root"
    ignored = shutil.ignore_patterns(".terraform", "tests")
    shutil.copytree(ROOT / "terraform", folder, ignore=ignored)
    (folder / "stub_override.tf").write_text(OVERRIDE)
    mwaa = MwaaApi()
    with servers.moto() as url, servers.wsgi(mwaa) as proxy:
        made = Root(folder, url, proxy, mwaa)
        made.terraform("init", "-input=false")
        made.terraform("apply", "-auto-approve", "-input=false")
        yield made


def test_the_environment_is_created_as_it_is_written(root: Root) -> None:
    found = root.mwaa.environments[NAME]
    assert found["Status"] == "AVAILABLE"
    assert found["SourceBucketArn"] == f"arn:aws:s3:::{NAME}-dags-{ACCOUNT}"
    assert found["ExecutionRoleArn"].endswith(":role/movies/dev/movies-dev-mwaa")
    assert len(found["NetworkConfiguration"]["SubnetIds"]) == 2
    assert found["Tags"]["project"] == "movies"
    assert root.changed() <= {
        # moto loses descriptions of rules that refer to a group.
        "aws_vpc_security_group_ingress_rule"
    }


def test_failures_are_told_by_an_encrypted_topic(root: Root) -> None:
    sns, events = root.client("sns"), root.client("events")
    (topic,) = [one["TopicArn"] for one in sns.list_topics()["Topics"]]
    attributes = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    assert attributes["KmsMasterKeyId"] == f"alias/{NAME}-alarms"
    (subscribed,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert (subscribed["Protocol"], subscribed["Endpoint"]) == ("email", "data@example.com")

    (target,) = events.list_targets_by_rule(Rule=f"{NAME}-task-failed")["Targets"]
    assert target["Arn"] == topic
    (alarm,) = root.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert alarm["AlarmActions"] == [topic]
    (metric,) = alarm["Metrics"]
    assert f"WHERE Environment = '{NAME}'" in metric["Expression"]


def test_airflow_may_do_what_its_dag_needs_and_nothing_else(root: Root) -> None:
    iam = root.client("iam")
    document = iam.get_role_policy(RoleName=f"{NAME}-mwaa", PolicyName="run-dags")
    permissions = Permissions(identity=(json.dumps(document["PolicyDocument"]),))

    def refused(places: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [
            (action, resource)
            for action, resource in places
            if refusal(permissions, Need(action=action, resource=resource))
        ]

    assert refused(ALLOWED) == []
    assert refused(REFUSED) == REFUSED


def test_an_environment_is_changed_in_place_and_destroyed(root: Root) -> None:
    before = len(root.mwaa.changes)
    # moto refuses to change a rule without ports, whose description it has lost.
    only = "-target=aws_mwaa_environment.this"
    root.terraform("apply", "-auto-approve", "-input=false", only, mwaa_max_workers="3")
    (change,) = root.mwaa.changes[before:]
    assert (change[0], change[1]) == ("PATCH", f"/environments/{NAME}")
    assert change[2]["MaxWorkers"] == 3

    root.terraform("destroy", "-auto-approve", "-input=false")
    assert root.mwaa.environments == {}
    assert root.client("sns").list_topics()["Topics"] == []
