"""The stack with `create_mwaa`, which is off by default, applied, changed and destroyed by real
Terraform: MWAA's API is a stub, all else is moto's.

Airflow's role is then asked what the DAG `athena_elt` needs, and what it must not do.
"""

import json
from collections.abc import Iterator

import pytest

from cipipe.sandbox.aws.iam.evaluation import Need, Permissions, refusal
from support import athena_elt, servers
from support.mwaa_api import MwaaApi
from support.stack_root import ACCOUNT, BACKEND, REGION, StackRoot, copied
from support.tools import require

NAME = "movies-dev"
VARIABLES = {
    "project": "movies",
    "environment": "dev",
    "create_mwaa": "true",
    "alarm_emails": '["data@example.com"]',
}

# The sandbox has no MWAA; here it has one.
OVERRIDE = (
    BACKEND
    + """
locals {
  create_mwaa = true
}

provider "aws" {
  endpoints {
    mwaa = "http://mwaa.test"
  }
}

# moto loses the description of a rule that refers to a group, and then refuses to change it.
resource "aws_vpc_security_group_ingress_rule" "mwaa" {
  lifecycle {
    ignore_changes = [description]
  }
}
"""
)


@pytest.fixture(scope="module")
def mwaa() -> MwaaApi:
    return MwaaApi()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, mwaa: MwaaApi) -> Iterator[StackRoot]:
    require("terraform", "the MWAA stack")
    folder = copied(tmp_path_factory.mktemp("mwaa") / "root", OVERRIDE)
    with servers.moto() as url, servers.wsgi(mwaa) as proxy:
        env = {"HTTP_PROXY": proxy, "NO_PROXY": "127.0.0.1,localhost"}
        made = StackRoot(folder, url, VARIABLES, env)
        made.create()
        yield made


def test_the_environment_is_created_as_it_is_written(root: StackRoot, mwaa: MwaaApi) -> None:
    found = mwaa.environments[NAME]
    assert found["Status"] == "AVAILABLE"
    assert found["SourceBucketArn"] == f"arn:aws:s3:::{NAME}-dags-{ACCOUNT}"
    assert found["ExecutionRoleArn"].endswith(":role/movies/dev/movies-dev-mwaa")
    assert len(found["NetworkConfiguration"]["SubnetIds"]) == 2
    assert found["Tags"]["project"] == "movies"
    assert root.planned() == {}


def test_failures_are_told_by_an_encrypted_topic(root: StackRoot) -> None:
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


def test_airflow_may_do_what_its_dag_needs_and_nothing_else(root: StackRoot) -> None:
    iam = root.client("iam")
    document = iam.get_role_policy(RoleName=f"{NAME}-mwaa", PolicyName="run-dags")
    permissions = Permissions(identity=(json.dumps(document["PolicyDocument"]),))

    def refused(places: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [
            (action, resource)
            for action, resource in places
            if refusal(permissions, Need(action=action, resource=resource))
        ]

    assert refused(athena_elt.needed(NAME, ACCOUNT, REGION)) == []
    others = athena_elt.forbidden(NAME, ACCOUNT, REGION)
    assert refused(others) == others


def test_an_environment_is_changed_in_place_and_destroyed(root: StackRoot, mwaa: MwaaApi) -> None:
    before = len(mwaa.changes)
    root.terraform("apply", "-auto-approve", "-input=false", mwaa_max_workers="3")
    (change,) = mwaa.changes[before:]
    assert (change[0], change[1]) == ("PATCH", f"/environments/{NAME}")
    assert change[2]["MaxWorkers"] == 3

    root.terraform("destroy", "-auto-approve", "-input=false")
    assert mwaa.environments == {}
    assert root.client("sns").list_topics()["Topics"] == []
