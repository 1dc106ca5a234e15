"""Two Terraform roots: outputs of the first are variables of the second, with their types; and
the second has providers of two regions. Real Terraform and AWS's provider against the sandbox.
"""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import boto3
import pytest

from cipipe.sandbox.client import Sandbox
from support.apply_project import BUCKET, CONFIG, ApplyProject
from support.clone import Aws
from support.tools import require

SECRET, ROTATED = "seeded-sensitive-value", "rotated-sensitive-value"

STAGES = """
[stages.net]
kind = "terraform"
paths = ["net/**"]
root = "net"
backend = { bucket = "cipipe-{account_id}-{region}", key = "applies/{environment}.net.tfstate" }

[stages.app]
kind = "terraform"
paths = ["app/**"]
root = "app"
backend = { bucket = "cipipe-{account_id}-{region}", key = "applies/{environment}.app.tfstate" }
needs = ["net"]

[stages.app.variables]
text = { output = "text" }
number = { output = "number" }
flag = { output = "flag" }
names = { output = "names" }
tags = { output = "tags" }
shape = { output = "shape" }
nothing = { output = "nothing", default = "instead" }
password = { output = "password" }
literal = "of {environment}"
"""

NET = """
terraform {
  backend "s3" {}
}

resource "terraform_data" "it" {
  input = "%(n)s"
}

output "text" {
  value = "plain"
}
output "number" {
  value = 7
}
output "flag" {
  value = false
}
output "names" {
  value = ["a", "b"]
}
output "tags" {
  value = { team = "data" }
}
output "shape" {
  value = { size = 3, on = true, zones = ["x"] }
}
output "nothing" {
  value = null
}
output "password" {
  value     = "%(password)s"
  sensitive = true
}
"""

APP = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws", version = "~> 5.100" }
  }
  backend "s3" {}
}

provider "aws" {
  max_retries = 2
}

provider "aws" {
  alias       = "far"
  region      = "us-east-1"
  max_retries = 2
}

variable "text" { type = string }
variable "number" { type = number }
variable "flag" { type = bool }
variable "names" { type = list(string) }
variable "tags" { type = map(string) }
variable "shape" { type = object({ size = number, on = bool, zones = list(string) }) }
variable "nothing" { type = string }
variable "literal" { type = string }
variable "password" {
  type      = string
  sensitive = true
}

resource "terraform_data" "seen" {
  input = {
    text    = var.text
    number  = var.number
    flag    = var.flag
    names   = var.names
    tags    = var.tags
    shape   = var.shape
    nothing = var.nothing
    literal = var.literal
  }
}

resource "terraform_data" "digest" {
  input = nonsensitive(sha256(var.password))
}

resource "aws_ssm_parameter" "near" {
  name  = "/applies/where"
  type  = "String"
  value = "near"
}

resource "aws_ssm_parameter" "far" {
  provider = aws.far
  name     = "/applies/where"
  type     = "String"
  value    = "far %(n)s"
}
"""


class Roots(ApplyProject):
    """The project with its two roots."""

    def write(self, *, net: int, app: int, password: str = SECRET) -> None:
        for name, text, n in (("net", NET, net), ("app", APP, app)):
            (self.folder / name).mkdir(exist_ok=True)
            filled = text.replace("%(n)s", str(n)).replace("%(password)s", password)
            (self.folder / name / "main.tf").write_text(filled)
        self.change("")

    def deployed(self) -> dict[str, str]:
        done = self.run()
        assert done.status == 0, done.text
        assert SECRET not in done.text
        assert ROTATED not in done.text
        return done.results()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roots]:
    require("terraform", "the infrastructure")
    config = CONFIG.partition("[stages.iac]")[0] + STAGES
    made = Roots.made(tmp_path_factory.mktemp("roots") / "repository", config)
    made.write(net=1, app=1)
    up = made.cipipe("sandbox", "up")
    assert up.status == 0, up.err
    try:
        assert made.deployed() == {"net": "done", "app": "done"}
        yield made
    finally:
        made.cipipe("sandbox", "down")


@pytest.fixture(scope="module")
def sandbox(project: Roots) -> Sandbox:
    return project.sandbox()


@pytest.fixture(scope="module")
def aws(sandbox: Sandbox) -> Aws:
    return Aws(sandbox)


def inputs(aws: Aws) -> dict[str, Any]:
    """What the second root was given, by resource."""
    state = json.loads(aws.get(BUCKET, "applies/dev.app.tfstate"))
    return {
        entry["name"]: entry["instances"][0]["attributes"]["input"]["value"]
        for entry in state["resources"]
        if entry["type"] == "terraform_data"
    }


def test_outputs_keep_their_types(project: Roots, aws: Aws) -> None:
    assert inputs(aws)["seen"] == {
        "text": "plain",
        "number": 7,
        "flag": False,
        "names": ["a", "b"],
        "tags": {"team": "data"},
        "shape": {"size": 3, "on": True, "zones": ["x"]},
        "nothing": "instead",
        "literal": "of dev",
    }


def test_two_regions(project: Roots, sandbox: Sandbox) -> None:
    keys = sandbox.admin
    found = {}
    for region in ("eu-central-1", "us-east-1"):
        client = boto3.client(
            "ssm",
            region_name=region,
            endpoint_url=sandbox.state.aws_url,
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key,
        )
        found[region] = client.get_parameter(Name="/applies/where")["Parameter"]["Value"]
    assert found == {"eu-central-1": "near", "us-east-1": "far 1"}


def test_a_sensitive_output_is_passed_and_recorded_nowhere(project: Roots, aws: Aws) -> None:
    assert inputs(aws)["digest"] == sha256(SECRET.encode()).hexdigest()
    holding = [key for key in aws.keys(BUCKET) if SECRET.encode() in aws.get(BUCKET, key)]
    assert holding == ["applies/dev.net.tfstate"], "its own state has it, and nothing else"
    left = [
        str(file)
        for file in (project.folder / ".cipipe").rglob("*")
        if file.is_file() and "sandbox" not in file.parts and SECRET.encode() in file.read_bytes()
    ]
    assert left == []


def test_a_sensitive_output_of_a_stage_that_stays_as_it_is(project: Roots, aws: Aws) -> None:
    """The ledger does not have its value."""
    project.write(net=1, app=2)
    assert project.deployed() == {"net": "unchanged", "app": "done"}
    assert inputs(aws)["digest"] == sha256(SECRET.encode()).hexdigest()


def test_a_rotated_secret_reaches_the_stage_that_uses_it(project: Roots, aws: Aws) -> None:
    """No digest has its value, so that nothing else shows that it changed."""
    project.write(net=2, app=2, password=ROTATED)
    assert project.deployed() == {"net": "done", "app": "done"}
    assert inputs(aws)["digest"] == sha256(ROTATED.encode()).hexdigest()
    assert project.deployed() == {"net": "unchanged", "app": "unchanged"}
