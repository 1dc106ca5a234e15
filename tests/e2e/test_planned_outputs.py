"""Merge and pull requests with real Terraform: what would become of the DAGs is shown before
anything is applied, and nothing is written. Jobs of both providers, in a sandbox without Docker.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from cipipe.sandbox import Sandbox
from support.git import Repo
from support.jobs import ACCOUNT, REGION, ROLE, Done, github, gitlab, sandbox_with_roles
from support.leaks import leaks
from support.tools import require

LEDGER = f"cipipe-{ACCOUNT}-{REGION}"
SECRET, NEXT_SECRET = "correct-horse-battery", "staple-of-tomorrow"

CONFIG = f"""
[project]
name = "shop"
default_environment = "dev"

[environments.dev]
account_id = "{ACCOUNT}"
region = "{REGION}"
role_arn = "{ROLE}"
verify_role_arn = "arn:aws:iam::{ACCOUNT}:role/verify"
deploy_from = {{ branches = ["main"] }}

[stages.iac]
kind = "terraform"
paths = ["terraform/**"]
root = "terraform"
backend = {{ bucket = "{LEDGER}", key = "iac.tfstate", use_path_style = "true" }}

[stages.apps]
kind = "terraform"
paths = ["apps/**"]
root = "apps"
backend = {{ bucket = "{LEDGER}", key = "apps.tfstate", use_path_style = "true" }}
variables = {{ cluster_arn = {{ output = "ecs_cluster_arn" }} }}
needs = ["iac"]

[stages.dags]
kind = "dags"
paths = ["dags/**"]
source = "dags"
bucket = {{ output = "dags_bucket" }}
needs = ["iac", "apps"]
"""

TERRAFORM = f"""
terraform {{
  required_providers {{
    aws = {{ source = "hashicorp/aws", version = "~> 5.100" }}
  }}
  backend "s3" {{}}
}}

provider "aws" {{
  max_retries       = 2
  s3_use_path_style = true
}}

resource "aws_ecs_cluster" "this" {{
  name = "shop-dev"
}}

resource "aws_s3_bucket" "dags" {{
  bucket = "shop-dags"
}}

output "ecs_cluster_name" {{
  value = aws_ecs_cluster.this.name
}}

output "ecs_cluster_arn" {{
  value = aws_ecs_cluster.this.arn
}}

output "cluster_arns" {{
  value = tolist([aws_ecs_cluster.this.arn])
}}

output "dags_bucket" {{
  value = aws_s3_bucket.dags.bucket
}}

output "token" {{
  value     = "{SECRET}"
  sensitive = true
}}
"""

APPS = """
terraform {
  backend "s3" {}
}

variable "cluster_arn" {
  type = string
}

resource "terraform_data" "it" {
  input = var.cluster_arn
}

output "service" {
  value = "on ${var.cluster_arn}"
}
"""

DAG = """\
from airflow import DAG

CLUSTER = "local"  # cipipe: ecs_cluster_name
ARN = "local"  # cipipe: ecs_cluster_arn
ARNS: list[str] = ["local"]  # cipipe: cluster_arns
SERVICE = "local"  # cipipe: service
TOKEN = "local"  # cipipe: token (sensitive ok)
"""

PATHS = {"terraform": "terraform/main.tf", "apps": "apps/main.tf", "dag": "dags/etl.py"}
FILES = {
    PATHS["terraform"]: TERRAFORM,
    PATHS["apps"]: APPS,
    PATHS["dag"]: DAG,
    ".gitignore": ".cipipe/\n.terraform*\n",
}

MERGE_REQUEST = {
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_MERGE_REQUEST_IID": "7",
    "CI_MERGE_REQUEST_PROJECT_PATH": "group/shop",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "group/shop",
    "CI_COMMIT_REF_NAME": "side",
}
PULL_REQUEST = {
    "GITHUB_EVENT_NAME": "pull_request",
    "GITHUB_REF": "refs/pull/7/merge",
    "GITHUB_HEAD_REF": "side",
}


class Project:
    """A repository, deployed to a sandbox's account, and jobs of its merge requests."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder = folder
        self.sandbox = sandbox
        session = boto3.Session(
            sandbox.admin.access_key_id, sandbox.admin.secret_access_key, region_name=REGION
        )
        url = sandbox.state.aws_url
        self.s3: Any = session.client("s3", endpoint_url=url)
        self.ecs: Any = session.client("ecs", endpoint_url=url)
        self.jobs = 0
        # Terraform looks for its providers below the home folder.
        self.env = {"HOME": os.environ["HOME"], "NO_COLOR": "1"}

    def push(self) -> Done:
        """The job of a push to main, which deploys."""
        job = gitlab(self.folder / "main", self.sandbox, CONFIG)
        Repo(job.root).commit(FILES)
        return job.cipipe("run", "--env", "dev", "--format", "json", **self.env)

    def request(self, *, provider: str = "gitlab", **files: str) -> Done:
        """The job of a merge or pull request that changes these files, named as in `PATHS`."""
        self.jobs += 1
        root = self.folder / f"request-{self.jobs}"
        made = {"gitlab": gitlab, "github": github}[provider]
        job = made(root, self.sandbox, CONFIG, event="merge-request")
        changed = {PATHS[name]: text for name, text in files.items()}
        Repo(root).commit({**FILES, **changed})
        variables = {"gitlab": MERGE_REQUEST, "github": PULL_REQUEST}[provider]
        return job.cipipe("run", "--env", "dev", "--format", "json", **self.env, **variables)

    def state(self) -> dict[str, Any]:
        """Everything in S3, with its versions, and the clusters."""
        objects = {}
        for bucket in self.s3.list_buckets()["Buckets"]:
            found = self.s3.list_object_versions(Bucket=bucket["Name"])
            objects[bucket["Name"]] = [
                (one["Key"], one["VersionId"], one["ETag"], str(one["LastModified"]))
                for one in found.get("Versions", [])
            ]
        return {"objects": objects, "clusters": self.ecs.list_clusters()["clusterArns"]}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    require("terraform", "the plans")
    folder = tmp_path_factory.mktemp("projects")
    with sandbox_with_roles(tmp_path_factory.mktemp("sandbox")) as sandbox:
        made = Project(folder, sandbox)
        made.s3.create_bucket(
            Bucket=LEDGER, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        yield made


@pytest.fixture(scope="module")
def first(project: Project) -> tuple[Done, dict[str, Any], dict[str, Any]]:
    """A merge request before the first deployment, with what there was before and after it."""
    before = project.state()
    done = project.request()
    return done, before, project.state()


@pytest.fixture(scope="module")
def deployed(project: Project, first: object) -> Project:
    done = project.push()
    assert done.status == 0, done.err
    return project


def stages(done: Done) -> dict[str, dict[str, Any]]:
    return {stage["name"]: stage for stage in json.loads(done.out)["stages"]}


def diff(done: Done) -> str:
    (change,) = stages(done)["dags"]["findings"]["dags"]["changes"]
    assert change["key"] == "dags/etl.py"
    return str(change["diff"])


def test_before_the_first_deployment_everything_is_new(
    first: tuple[Done, dict[str, Any], dict[str, Any]],
) -> None:
    done, before, after = first
    assert done.status == 0, done.err
    found = stages(done)
    assert {name: stage["result"] for name, stage in found.items()} == {
        "iac": "done",
        "apps": "done",
        "dags": "done",
    }
    assert found["iac"]["made"] == "2 to add"
    assert found["apps"]["made"] == "depends on values known after apply: ecs_cluster_arn"
    dags = found["dags"]["findings"]["dags"]
    assert (dags["bucket"], dags["summary"]["added"]) == (None, 1)
    pending = {entry["output"]: entry["type"] for entry in dags["after_apply"]}
    assert pending == {"ecs_cluster_arn": "string", "cluster_arns": "list of string"}
    assert "s3://shop-dags does not exist yet: everything is new (1 file)" in done.err
    assert after == before


@pytest.mark.parametrize("provider", ["gitlab", "github"])
def test_a_renamed_cluster_shows_the_diff_of_its_dags(deployed: Project, provider: str) -> None:
    before = deployed.state()
    done = deployed.request(
        provider=provider, terraform=TERRAFORM.replace('"shop-dev"', '"shop-fast"')
    )
    assert done.status == 0, done.err
    assert deployed.state() == before
    assert stages(done)["dags"]["reason"] == "upstream"
    lines = diff(done).splitlines()
    assert '-CLUSTER = "shop-dev"  # cipipe: ecs_cluster_name' in lines
    assert '+CLUSTER = "shop-fast"  # cipipe: ecs_cluster_name' in lines
    # What only AWS decides is not made up: neither the old value nor the literal in the file.
    assert '+ARN = "(known after apply)"  # cipipe: ecs_cluster_arn' in lines
    assert '+ARNS: list[str] = "(known after apply)"  # cipipe: cluster_arns' in lines
    assert '+SERVICE = "(known after apply)"  # cipipe: service' in lines
    assert "ecs_cluster_arn: string, known after apply" in done.err
    assert '+CLUSTER = "shop-fast"' in done.err
    assert stages(done)["dags"]["made"].endswith("3 values known after apply")
    # Terraform cannot plan with a variable that is not known.
    assert stages(done)["apps"]["made"] == "depends on values known after apply: ecs_cluster_arn"
    assert "apps │   ecs_cluster_arn: string, known after apply" in done.err


def test_a_change_without_another_output_leaves_the_dags_alone(deployed: Project) -> None:
    more = '\nresource "aws_ecs_cluster" "other" {\n  name = "other"\n}\n'
    found = stages(deployed.request(terraform=TERRAFORM + more))
    assert found["iac"]["made"] == "1 to add"
    assert found["apps"]["result"] == "unchanged"
    # A DAG has a secret, whose value is in no digest: so its file is compared.
    dags = found["dags"]["findings"]["dags"]
    assert (dags["changes"], dags["summary"]["unchanged"]) == ([], 1)


def test_a_wrong_type_is_found_before_the_value_exists(deployed: Project) -> None:
    alone = TERRAFORM.replace('"shop-dev"', '"shop-fast"').replace(
        "tolist([aws_ecs_cluster.this.arn])", "aws_ecs_cluster.this.arn"
    )
    done = deployed.request(terraform=alone)
    assert (done.status, done.id) == (4, "dags-patch-failed"), done.err
    assert "dags/etl.py:5" in done.err
    assert "it is a string, not a list (dag-output-wrong-type)" in done.err


def test_a_misspelt_output_is_found_before_it_is_merged(deployed: Project) -> None:
    done = deployed.request(dag=DAG.replace("ecs_cluster_name", "ecs_cluster_nam"))
    assert (done.status, done.id) == (4, "dags-patch-failed"), done.err
    assert "there is no Terraform output ecs_cluster_nam (dag-output-unknown)" in done.err


def test_a_sensitive_output_is_in_no_answer(deployed: Project) -> None:
    changed = TERRAFORM.replace(SECRET, NEXT_SECRET)
    annotated = DAG.replace("TOKEN =", "TOKEN: str =")
    done = deployed.request(terraform=changed, dag=annotated)
    assert done.status == 0, done.err
    assert '+TOKEN: str = "[redacted]"  # cipipe: token (sensitive ok)' in diff(done).splitlines()
    said = done.out + done.err
    assert leaks(said, secrets=[SECRET, NEXT_SECRET]) == []
    stored = [
        deployed.s3.get_object(Bucket=LEDGER, Key=key)["Body"].read()
        for bucket, objects in deployed.state()["objects"].items()
        for key, *_ in objects
        if bucket == LEDGER and not key.endswith(".tfstate")
    ]
    assert stored
    assert [body for body in stored if NEXT_SECRET.encode() in body] == []
