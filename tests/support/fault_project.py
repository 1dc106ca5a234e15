"""A project of Terraform, DAGs and a command, without Docker, for runs that something disturbs.

`assert_finished` says what has to be in AWS once a run has succeeded.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.clone import Aws, Clone, Outcome

BUCKET = "cipipe-111111111111-eu-central-1"

FILES = 12

RUN = (str(Path(sys.executable).parent / "cipipe"), "run", "--sandbox", "--env", "dev")

IDS = re.compile(r"\[([a-z0-9-]+)\] docs/errors\.md#\1, exit status (\d+)")

CONFIG = """
[project]
name = "faults"
default_environment = "dev"

[oidc.gitlab]
audience = "https://gitlab.com"
token_variable = "AWS_ID_TOKEN"
project = "group/faults"

[environments.dev]
account_id = "111111111111"
region = "eu-central-1"
role_arn = "arn:aws:iam::111111111111:role/faults-deploy"
deploy_from = { branches = ["main"] }

[stages.iac]
kind = "terraform"
paths = ["infra/**"]
root = "infra"
backend = { bucket = "cipipe-{account_id}-{region}", key = "faults/{environment}.tfstate" }
lock_timeout = "0s"

[stages.dags]
kind = "dags"
paths = ["dags/**"]
source = "dags"
bucket = { output = "bucket" }
needs = ["iac"]

[stages.note]
kind = "command"
paths = ["note/**"]
needs = ["iac"]
run = [["sh", "note/run.sh"]]
"""

ROOT = """
terraform {
  backend "s3" {
    use_lockfile = true
  }
}

variable "account_id" {
  type = string
}

variable "region" {
  type = string
}

resource "terraform_data" "first" {
  input = local.number
}

resource "terraform_data" "second" {
  input            = terraform_data.first.output
  triggers_replace = local.number

  provisioner "local-exec" {
    command = "sleep 0.5"
  }
}

output "bucket" {
  value = "cipipe-${var.account_id}-${var.region}"
}
"""

DAG = """
from airflow import DAG
from support.environment import shell_environment

NUMBER = {number}
BUCKET = "nowhere"  # cipipe: bucket

with DAG("dag_{name}"):
    pass
"""


class Project(Clone):
    """The project, at its `number`th change."""

    number = 0

    def change(self) -> None:
        """A commit that makes every stage due."""
        self.number += 1
        (self.folder / "infra/number.tf").write_text(f'locals {{\n  number = "{self.number}"\n}}\n')
        for name in range(FILES):
            (self.folder / f"dags/dag_{name}.py").write_text(
                DAG.format(number=self.number, name=name)
            )
        (self.folder / "note/run.sh").write_text(
            f"echo {self.number} >> {shlex.quote(str(self.notes))}\n"
        )
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", f"Change {self.number}")

    @property
    def notes(self) -> Path:
        return self.folder.parent / "notes"

    def limited(self, *arguments: str, limits: Callable[[], None], **env: str) -> Outcome:
        """`cipipe run --sandbox` in a process that was limited before."""
        done = subprocess.run(
            [*RUN, *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            preexec_fn=limits,
            capture_output=True,
            text=True,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def shell(self, script: str, *arguments: str, **env: str) -> Outcome:
        """A shell script in the project; `"$@"` is `cipipe run --sandbox`."""
        done = subprocess.run(
            ["bash", "-c", script, "bash", *RUN, *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)


def error_id(outcome: Outcome) -> str:
    """The id of the error, which has to be a clear one: no traceback, and the exit status that goes
    with it.
    """
    assert "Traceback" not in outcome.text, outcome.text
    assert "bug in cipipe" not in outcome.text, outcome.text
    found = IDS.findall(outcome.err)
    assert found, f"exit status {outcome.status} without an error:\n{outcome.text}"
    assert str(outcome.status) in {status for _, status in found}
    return str(found[-1][0])


def assert_finished(project: Project, aws: Aws) -> None:
    """All that the last change asks for is there, once, and recorded; nothing else is, and nothing
    is locked.
    """
    number = str(project.number)
    state = json.loads(aws.get(BUCKET, "faults/dev.tfstate"))
    inputs = {
        entry["name"]: entry["instances"][0]["attributes"]["input"]["value"]
        for entry in state["resources"]
    }
    assert inputs == {"first": number, "second": number}
    assert aws.keys(BUCKET, "dags/") == sorted(f"dags/dag_{name}.py" for name in range(FILES))
    for name in range(FILES):
        expected = DAG.format(number=number, name=name).replace('"nowhere"', f'"{BUCKET}"')
        assert aws.get(BUCKET, f"dags/dag_{name}.py").decode() == expected
    head = project.git("rev-parse", "HEAD")
    for stage in ("iac", "dags", "note"):
        record = json.loads(aws.get(BUCKET, f"ledger/faults/dev/{stage}.json"))
        assert (record["state"], record["commit"]) == ("deployed", head)
    assert project.notes.read_text().splitlines()[-1] == number
    assert [key for key in aws.keys(BUCKET) if "lock" in key.rpartition("/")[2]] == []
    assert set(project.run().results().values()) == {"unchanged"}
    assert project.git("status", "--porcelain") == ""


def finish(project: Project, aws: Aws) -> None:
    again = project.run()
    assert again.status == 0, again.text
    assert_finished(project, aws)
