"""Two small repositories for workflows that act runs, with real Terraform, images and DAGs.

One is this repository with its own pipeline files, but with less to deploy. The other calls the
reusable workflow as docs/github.md shows.
"""

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from cipipe.sandbox import client
from cipipe.sandbox.client import Sandbox
from support.clone import Clone
from support.environment import shell_environment
from support.github_runner import Event, Runner, Started, WorkflowRun
from support.image_project import BASE
from support.leaks import leaks
from support.tools import ROOT

ACCOUNTS = {"dev": "111111111111", "live": "222222222222", "test": "111111111111"}
REGION = "eu-central-1"

_TERRAFORM = """\
terraform {
  required_providers {
    aws = { source = "hashicorp/aws", version = "~> 5.100" }
  }
  backend "s3" {
    use_lockfile = true
  }
}

provider "aws" {
  s3_use_path_style = true
  max_retries       = 2
}

variable "environment" {
  type = string
}

variable "image_tag" {
  type    = string
  default = ""
}

resource "aws_s3_bucket" "dags" {
  bucket = "PROJECT-${var.environment}-dags"
}
"""
_REPOSITORY = """
resource "aws_ecr_repository" "NAME" {
  name                 = "PROJECT-${var.environment}-NAME"
  image_tag_mutability = "IMMUTABLE"
  force_delete         = true
}

output "NAME_repository_url" {
  value = aws_ecr_repository.NAME.repository_url
}
"""
_BUCKET = """
output "dags_bucket" {
  value = aws_s3_bucket.dags.bucket
}
"""

DAG = """\
from airflow import DAG

BUCKET = "local"  # cipipe: dags_bucket

with DAG("{name}", schedule="{schedule}"):
    pass
"""
_DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY dbt /bin/dbt
"""


def terraform(project: str, *repositories: str) -> str:
    """A root with a bucket for DAGs and these image repositories."""
    parts = [_TERRAFORM, *(_REPOSITORY.replace("NAME", name) for name in repositories), _BUCKET]
    return "".join(parts).replace("PROJECT", project)


@dataclass
class Project(Clone):
    """A repository at GitHub, whose sandbox runs in `sandbox_folder`."""

    # Its path at GitHub, and its name in cipipe.toml.
    path: str = ""
    name: str = ""
    sandbox_folder: Path = Path()
    runner: Runner | None = None
    number: int = field(default=100)

    def write(self, path: str, text: str, *, executable: bool = False) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if executable else 0o644)

    def save(self, message: str = "Change") -> str:
        """Commit everything, and give the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def image(self, folder: str) -> None:
        """An image that only needs the base."""
        self.write(f"{folder}/Dockerfile", _DOCKERFILE)
        self.write(f"{folder}/dbt", "#!/bin/sh\ntrue\n", executable=True)

    def job(self, event: Event) -> dict[str, str]:
        """The variables with which a job of the repository gets an ID token."""
        tag = event.ref.startswith("refs/tags/")
        kind = "merge-request" if event.name == "pull_request" else event.name
        url, bearer = self.sandbox().github_job(
            project=self.path,
            ref=event.ref.split("/", 2)[2],
            ref_type="tag" if tag else "branch",
            event=kind,
        )
        return {
            "ACTIONS_ID_TOKEN_REQUEST_URL": url,
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": bearer,
        }

    def run(  # type: ignore[override]
        self, event: Event, workflow: str = "deploy.yml", *, identity: bool = True
    ) -> WorkflowRun:
        """A run of a workflow, in a checkout of its own, as GitHub would number it."""
        return self.ended(self.start_run(event, workflow, identity=identity))

    def start_run(
        self, event: Event, workflow: str = "deploy.yml", *, identity: bool = True
    ) -> Started:
        assert self.runner is not None
        self.number += 1
        checkout = self.runner.folder / f"checkout-{self.number}"
        self.git("clone", "--quiet", "--no-hardlinks", str(self.folder), str(checkout))
        clone = Clone(checkout)
        clone.git("remote", "set-url", "origin", f"https://github.com/{self.path}.git")
        if event.name == "pull_request":
            # What GitHub checks out: the pull request, merged into its base.
            clone.git("checkout", "--quiet", "main")
            clone.git("merge", "--quiet", "--no-ff", "-m", "Merge", "origin/feature")
        file = checkout / ".github/workflows" / workflow
        own = self.job(event) if identity else {}
        return self.runner.start(checkout, file, event, number=self.number, **own)

    def ended(self, started: Started) -> WorkflowRun:
        """The end of a run that was started. There is no secret in its log."""
        ended = started.ended()
        assert leaks(ended.log, hashes=self.sandbox().secret_hashes()) == []
        return ended

    def sandbox(self) -> Sandbox:
        found = client.find(self.sandbox_folder)
        assert found is not None
        return found

    def client(self, service: str, environment: str) -> Any:
        """A boto3 client of the environment's account, as its administrator."""
        sandbox = self.sandbox()
        keys = sandbox.admin_of(ACCOUNTS[environment])
        session: Any = boto3.Session(keys.access_key_id, keys.secret_access_key, region_name=REGION)
        return session.client(service, endpoint_url=sandbox.state.aws_url)

    def ledger(self, environment: str = "dev") -> dict[str, dict[str, Any]]:
        """The records of the environment's stages by their names."""
        s3 = self.client("s3", environment)
        bucket = f"cipipe-{ACCOUNTS[environment]}-{REGION}"
        prefix = f"ledger/{self.name}/{environment}/"
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        records = {}
        for page in pages:
            for entry in page.get("Contents", []):
                found = re.fullmatch(r"([^/.]+)\.json", entry["Key"].removeprefix(prefix))
                if found:
                    body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                    records[found[1]] = json.loads(body)
        return records

    def deployed(self, environment: str = "dev") -> dict[str, str]:
        """Which commit each stage was deployed from; another state instead, if it has one."""
        return {
            name: record["commit"] if record["state"] == "deployed" else record["state"]
            for name, record in self.ledger(environment).items()
        }

    def dag(self, path: str, environment: str = "dev") -> str:
        """The DAG file that Airflow would read."""
        bucket = f"{self.name}-{environment}-dags"
        body = self.client("s3", environment).get_object(Bucket=bucket, Key=path)["Body"]
        return str(body.read().decode())


SHOP = """
[project]
name = "shop"
default_environment = "test"

[oidc.github]
audience = "sts.amazonaws.com"
project = "group/shop"

[environments.test]
account_id = "111111111111"
region = "eu-central-1"
role_arn = "arn:aws:iam::111111111111:role/shop-deploy"
verify_role_arn = "arn:aws:iam::111111111111:role/shop-verify"
deploy_from = { branches = ["main"] }

[stages.network]
kind = "terraform"
paths = ["network/**"]
root = "network"
backend = { bucket = "cipipe-{account_id}-{region}", key = "{project}/{environment}.tfstate" }

[stages.api]
kind = "image"
paths = ["api/**"]
context = "api"
repository = { output = "api_repository_url" }
build_args = { BASE_IMAGE = { env = "BASE_IMAGE" } }
needs = ["network"]

[stages.dbt]
kind = "image"
paths = ["dbt/**"]
context = "dbt"
repository = { output = "dbt_repository_url" }
build_args = { BASE_IMAGE = { env = "BASE_IMAGE" } }
needs = ["network"]

[stages.hourly]
kind = "dags"
paths = ["hourly/**"]
source = "hourly"
bucket = { output = "dags_bucket" }
prefix = "hourly/"
needs = ["network", "api"]

[stages.daily]
kind = "dags"
paths = ["daily/**"]
source = "daily"
bucket = { output = "dags_bucket" }
prefix = "daily/"
needs = ["network", "dbt"]

[stages.check]
kind = "command"
paths = ["check/**"]
run = [["sh", "check/run.sh"]]
needs = ["daily", "hourly"]

[stages.default]
kind = "command"
when = "nothing-due"
run = [["cipipe", "status"]]
"""


def this_repository(folder: Path) -> Project:
    """This repository with its own pipeline files and cipipe.toml, and with little to deploy. The
    tests that it runs before a deployment are another matter.
    """
    subprocess.run(["git", "clone", "--quiet", "--", str(ROOT), str(folder)], check=True)
    env = shell_environment()
    made = Project(folder, env, path="example/dbt-deployment", name="dbt-deployment")
    made.git("checkout", "--quiet", "-B", "main")
    for gone in ("terraform", "dbt", "dags"):
        made.git("rm", "-r", "--quiet", gone)
    made.write("terraform/main.tf", terraform("dbt-deployment", "ecr"))
    for name in ("dev", "live"):
        made.write(f"terraform/environments/{name}.tfvars", f'environment = "{name}"\n')
    made.image("dbt")
    made.write("dags/orders.py", DAG.format(name="orders", schedule="@daily"))
    made.write(
        ".github/workflows/test.yml",
        "on: {workflow_call: }\n"
        "jobs: {tests: {runs-on: ubuntu-24.04, steps: [{run: echo tested}]}}\n",
    )
    return made


def shop(folder: Path, caller: str) -> Project:
    """A repository of seven stages."""
    folder.mkdir()
    made = Project(folder, shell_environment(), path="group/shop", name="shop")
    made.git("init", "--quiet", "--initial-branch", "main")
    made.write("cipipe.toml", SHOP)
    made.write(".gitignore", ".cipipe/\n")
    made.write("network/main.tf", terraform("shop", "api", "dbt"))
    made.write("network/test.auto.tfvars", 'environment = "test"\n')
    for name in ("api", "dbt"):
        made.image(name)
    for name in ("hourly", "daily"):
        made.write(f"{name}/{name}.py", DAG.format(name=name, schedule=f"@{name}"))
    made.write("check/run.sh", "true\n")
    requirements = ROOT / "scripts/requirements/runtime.txt"
    made.write("cipipe-requirements.txt", requirements.read_text())
    made.write(".github/workflows/deploy.yml", caller)
    return made


JOB = {"BASE_IMAGE": BASE, "NO_COLOR": "1"}
