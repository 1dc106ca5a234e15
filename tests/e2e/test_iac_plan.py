"""`cipipe iac plan` with real Terraform: every consequence, in every format, nothing written."""

import json
from collections.abc import Iterator

import pytest

from support.infrastructure import Infrastructure, infrastructure

SECRET = "correct-horse-battery-8"

BACKEND = """
terraform {
  backend "s3" {}
}
variable "password" {
  type      = string
  sensitive = true
  default   = "%s"
}
"""

BEFORE = (
    BACKEND % SECRET
    + """
resource "terraform_data" "delete_first" {
  triggers_replace = ["1"]
}
resource "terraform_data" "create_first" {
  triggers_replace = { version = "1" }
  lifecycle {
    create_before_destroy = true
  }
}
resource "terraform_data" "old" {
  input = "kept"
}
resource "terraform_data" "gone" {}
resource "terraform_data" "forgotten" {}
resource "terraform_data" "updated" {
  input = { size = 1, password = var.password }
}
output "plain" {
  value = "one"
}
output "password" {
  value     = var.password
  sensitive = true
}
"""
)

AFTER = (
    BACKEND % f"{SECRET}-new"
    + """
resource "terraform_data" "delete_first" {
  triggers_replace = ["2"]
}
resource "terraform_data" "create_first" {
  triggers_replace = { version = "2" }
  lifecycle {
    create_before_destroy = true
  }
}
resource "terraform_data" "new" {
  input = "kept"
}
moved {
  from = terraform_data.old
  to   = terraform_data.new
}
removed {
  from = terraform_data.forgotten
  lifecycle {
    destroy = false
  }
}
import {
  to = terraform_data.imported
  id = "an-id"
}
resource "terraform_data" "imported" {}
resource "terraform_data" "updated" {
  input = { size = 2, password = var.password }
}
resource "terraform_data" "created" {
  for_each = toset(["a \\"key\\" | `b`"])
  input    = terraform_data.create_first.id
}
output "plain" {
  value = "two"
}
output "password" {
  value     = var.password
  sensitive = true
}
output "later" {
  value = terraform_data.create_first.id
}
"""
)

REPORT = r"""Replaced: deleted, then created anew (1)
  -/+ terraform_data.delete_first
        triggers_replace: ["1"] → ["2"]  forces the replacement
Replaced: created anew, then the old one is deleted (1)
  +/- terraform_data.create_first
        triggers_replace.version: "1" → "2"  forces the replacement
Deleted (1)
  -   terraform_data.gone  not in the configuration any more
No longer managed, and not deleted (1)
  .   terraform_data.forgotten  not in the configuration any more
Moved to another address (1)
  ~   terraform_data.new  from terraform_data.old
Imported (1)
  &   terraform_data.imported  imported from an-id
Updated in place (1)
  ~   terraform_data.updated
        input.password: (sensitive) changes
        input.size: 1 → 2
        output: {"password":"(sensitive)","size":1} → (object, known after apply)
Created (1)
  +   terraform_data.created["a \"key\" | `b`"]
Outputs (3)
  +   later: (known after apply)
  ~   password: (sensitive) changes
  ~   plain: "one" → "two"

2 to replace, 1 to destroy, 1 to forget, 1 to add, 1 to change, 1 to move, 1 to import.
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Infrastructure]:
    """BEFORE is deployed, AFTER is committed on a branch."""
    folder = tmp_path_factory.mktemp("plan") / "repository"
    with infrastructure(folder, {"infra/main.tf": BEFORE}, CIPIPE_SANDBOX_IAM="enforce") as made:
        done = made.push()
        assert done.status == 0, done.text
        made.clone.git("checkout", "--quiet", "-b", "change")
        made.commit({"infra/main.tf": AFTER})
        yield made


def test_every_consequence_is_reported(project: Infrastructure) -> None:
    done = project.shell("iac", "plan")
    assert done.status == 0, done.text
    assert done.out == REPORT
    assert SECRET not in done.text


def test_a_merge_requests_job_may_plan(project: Infrastructure) -> None:
    before = project.keys()
    done = project.merge_request("iac", "plan", "--format", "json")
    assert done.status == 0, done.text
    assert SECRET not in done.text
    # No lock, no review, no workspace.
    assert project.keys() == before

    changes = done.document["changes"]
    assert changes["counts"] == {
        "replace": 2,
        "delete": 1,
        "forget": 1,
        "create": 1,
        "update": 1,
        "move": 1,
        "import": 1,
    }
    by_address = {entry["address"]: entry for entry in changes["resources"]}
    replaced = by_address["terraform_data.create_first"]
    assert replaced["action"] == "replace-create-first"
    assert [
        change["path"] for change in replaced["attributes"] if change.get("forces_replacement")
    ] == ["triggers_replace.version"]
    assert by_address["terraform_data.new"]["moved_from"] == "terraform_data.old"
    assert by_address["terraform_data.imported"]["imported_id"] == "an-id"
    updated = {
        change["path"]: change for change in by_address["terraform_data.updated"]["attributes"]
    }
    assert updated["input.password"]["before"] == {"is": "sensitive"}
    assert updated["output"]["after"] == {"is": "unknown", "type": "object"}
    assert (changes["complete"], changes["errored"]) == (True, False)


def test_gitlabs_report_and_a_comment(project: Infrastructure) -> None:
    report = project.shell("iac", "plan", "--format", "gitlab")
    assert json.loads(report.out) == {"create": 3, "update": 1, "delete": 3}

    comment = project.shell("iac", "plan", "--format", "markdown")
    lines = comment.out.splitlines()
    assert lines[0] == "### Terraform: `iac` → `dev`"
    # What is gone afterwards is not folded.
    folded = [line for line in lines if line.startswith("<details>")]
    assert len(folded) == 6
    assert not any("Replaced" in line or "Deleted" in line for line in folded)
    assert SECRET not in report.text + comment.text


def test_exit_statuses_are_terraforms_on_request(project: Infrastructure) -> None:
    plan = ("iac", "plan", "--detailed-exitcode")
    assert project.shell(*plan).status == 2
    assert project.shell(*plan, "--stage", "other").status == 1

    project.clone.git("checkout", "--quiet", "main")
    try:
        same = project.shell(*plan)
        assert (same.status, same.out) == (0, "No changes.\n")
    finally:
        project.clone.git("checkout", "--quiet", "change")


def test_files_that_differ_from_the_commit_are_planned_and_named(project: Infrastructure) -> None:
    file = project.folder / "infra/main.tf"
    file.write_text(AFTER + 'resource "terraform_data" "draft" {}\n')
    try:
        done = project.shell("iac", "plan")
        assert "terraform_data.draft" in done.out
        assert "warning: Terraform reads the files on disk" in done.err
    finally:
        project.clone.git("checkout", "--quiet", "--", "infra/main.tf")
