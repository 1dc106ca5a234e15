"""Applies that something disturbs: nothing is lost, what was done is said by address, and the
commands that errors print work. Real Terraform against the sandbox.
"""

import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cipipe.sandbox.client import Sandbox
from support.apply_project import (
    BUCKET,
    LOCK,
    RECORD,
    RECOVERY,
    STATE,
    ApplyProject,
    addresses,
    command_in,
    error,
    state,
)
from support.clone import Aws
from support.flaky import RefusingProxy
from support.tools import require

TWO = """
resource "terraform_data" "one" {
  input = "%(n)s"
}

resource "terraform_data" "two" {
  depends_on = [terraform_data.one]
  input      = "%(n)s"
}

output "secret" {
  value     = "seeded-secret-%(n)s"
  sensitive = true
}
"""

BROKEN = """
resource "terraform_data" "one" {
  input = "new"
}

resource "terraform_data" "breaks" {
  depends_on = [terraform_data.one]
  provisioner "local-exec" {
    command = "echo out of luck >&2; exit 3"
  }
}

resource "terraform_data" "later" {
  depends_on = [terraform_data.breaks]
}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApplyProject]:
    require("terraform", "the infrastructure")
    made = ApplyProject.made(tmp_path_factory.mktemp("applies") / "repository")
    up = made.cipipe("sandbox", "up")
    assert up.status == 0, up.err
    try:
        first = made.run()
        assert first.status == 0, first.text
        yield made
    finally:
        made.cipipe("sandbox", "down")


@pytest.fixture(scope="module")
def sandbox(project: ApplyProject) -> Sandbox:
    return project.sandbox()


@pytest.fixture(scope="module")
def aws(sandbox: Sandbox) -> Aws:
    return Aws(sandbox)


@pytest.fixture
def proxy(sandbox: Sandbox) -> Iterator[RefusingProxy]:
    """In front of AWS; it refuses nothing yet."""
    with RefusingProxy(sandbox.state.aws_url, lambda *_: False) as serving:
        yield serving


def writes_state(method: str, path: str) -> bool:
    return method == "PUT" and path.partition("?")[0].endswith(f"/{STATE}")


def writes_state_or_copy(method: str, path: str) -> bool:
    return writes_state(method, path) or (method == "PUT" and "/cipipe-recovery/" in path)


def test_a_state_that_cannot_be_written_is_kept_and_written_later(
    project: ApplyProject, sandbox: Sandbox, aws: Aws, proxy: RefusingProxy
) -> None:
    project.change(TWO % {"n": 1})
    before = state(aws)
    proxy.refuses = writes_state
    failed = project.deploy(sandbox, proxy.url)
    assert failed.status == 4, failed.text
    assert proxy.met
    found = error(failed)
    assert found["id"] == "terraform-state-not-written"
    assert "created (2): terraform_data.one, terraform_data.two" in found["message"]
    assert "seeded-secret" not in failed.text

    # Terraform applied all of it, and nothing but our copies knows of that.
    assert state(aws) == before
    assert LOCK not in aws.keys(BUCKET)
    assert not (project.folder / "infra/errored.tfstate").exists()
    (copy,) = (project.folder / ".cipipe/recovered/dev/iac").iterdir()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    (stored,) = aws.keys(BUCKET, RECOVERY)
    assert aws.get(BUCKET, stored) == copy.read_bytes()
    assert json.loads(aws.get(BUCKET, RECORD))["state"] == "failed"

    # Nothing is planned without that state.
    again = project.deploy(sandbox)
    assert (again.status, error(again)["id"]) == (5, "terraform-state-pending")
    assert "Plan:" not in again.err
    assert command_in(error(again)["hint"]) == command_in(found["hint"])

    # As in another job: this machine's copy is gone.
    copy.unlink()
    pushed = project.cipipe(*command_in(found["hint"]), **project.job(sandbox))
    assert pushed.status == 0, pushed.text
    assert addresses(aws) == {"one", "two"}
    assert aws.keys(BUCKET, RECOVERY) == []
    done = project.deploy(sandbox)
    assert done.status == 0, done.text
    (iac,) = done.document["stages"]
    assert iac["made"] == "no resource changes"


def test_a_state_that_can_be_kept_on_this_machine_only(
    project: ApplyProject, sandbox: Sandbox, aws: Aws, proxy: RefusingProxy, tmp_path: Path
) -> None:
    project.change(TWO % {"n": 2})
    proxy.refuses = writes_state_or_copy
    failed = project.deploy(sandbox, proxy.url)
    assert error(failed)["id"] == "terraform-state-not-written"
    assert "cannot be kept beside the ledger" in failed.err
    assert aws.keys(BUCKET, RECOVERY) == []

    # A job on another machine knows that a state is missing.
    other = ApplyProject(tmp_path / "other", project.env)
    shutil.copytree(project.folder, other.folder, ignore=shutil.ignore_patterns(".cipipe"))
    other.pipelines = project.pipelines
    refused = other.deploy(sandbox)
    assert (refused.status, error(refused)["id"]) == (5, "terraform-state-pending")
    missing = other.cipipe(*command_in(error(refused)["hint"]), **other.job(sandbox))
    assert missing.status == 2
    assert "no state" in missing.err

    project.pipelines = other.pipelines
    pushed = project.cipipe(*command_in(error(failed)["hint"]), **project.job(sandbox))
    assert pushed.status == 0, pushed.text
    assert list((project.folder / ".cipipe/recovered/dev/iac").iterdir()) == []
    done = project.deploy(sandbox)
    assert done.document["stages"][0]["made"] == "no resource changes"


def test_a_state_that_a_killed_run_left_in_the_root(
    project: ApplyProject, sandbox: Sandbox, aws: Aws
) -> None:
    current = state(aws)
    left = project.folder / "infra/errored.tfstate"
    left.write_text(json.dumps({**current, "serial": current["serial"] + 3}))
    project.change(TWO % {"n": 3})
    refused = project.deploy(sandbox)
    assert (refused.status, error(refused)["id"]) == (5, "terraform-state-pending")
    assert left.exists()
    pushed = project.cipipe(*command_in(error(refused)["hint"]), **project.job(sandbox))
    assert pushed.status == 0, pushed.text
    assert not left.exists()
    assert state(aws)["serial"] >= current["serial"] + 3
    assert project.deploy(sandbox).status == 0


def test_neither_a_newer_state_nor_a_foreign_one_is_overwritten(
    project: ApplyProject, sandbox: Sandbox, aws: Aws, tmp_path: Path
) -> None:
    current = state(aws)
    file = tmp_path / "some.tfstate"

    def push(**changed: object) -> tuple[int, str]:
        file.write_text(json.dumps({**current, **changed}))
        done = project.cipipe(
            "iac", "push-state", "--format", "json", str(file), **project.job(sandbox)
        )
        found = done.document.get("error", done.document)
        return done.status, str(found.get("id", found.get("written")))

    assert push(resources=[]) == (6, "terraform-state-newer")
    assert push(serial=1) == (0, "False")
    assert push(serial=1, resources=[]) == (6, "terraform-state-newer")
    assert push(lineage="another", serial=99) == (5, "terraform-state-foreign")
    assert push(lineage="") == (2, "terraform-not-a-state")
    assert state(aws) == current


def test_what_was_applied_before_an_error_is_said_by_address(
    project: ApplyProject, sandbox: Sandbox, aws: Aws
) -> None:
    project.change(BROKEN)
    failed = project.deploy(sandbox)
    assert failed.status == 4, failed.text
    found = error(failed)
    assert found["id"] == "terraform-partly-applied"
    lines = found["message"].splitlines()
    assert "changed (1): terraform_data.one" in lines
    assert "destroyed (1): terraform_data.two" in lines
    assert "failed (1): terraform_data.breaks (create)" in lines
    assert "not started (1): terraform_data.later" in lines
    assert "exit status 3" in found["message"]
    assert addresses(aws) == {"one", "breaks"}

    assert json.loads(aws.get(BUCKET, RECORD))["state"] == "failed"
    project.change(BROKEN.replace("exit 3", "exit 0"))
    done = project.deploy(sandbox)
    assert done.status == 0, done.text
    assert "(1/3)" in done.err
    assert "(3/3)" in done.err
    assert addresses(aws) == {"one", "breaks", "later"}


HELD = {
    "ID": "1d2c3b4a-0000-0000-0000-000000000000",
    "Operation": "OperationTypeApply",
    "Who": "eve@host",
    "Created": "2026-02-03T04:05:06Z",
}


def test_a_lock_that_stays_is_waited_for_and_stays(
    project: ApplyProject, sandbox: Sandbox, aws: Aws
) -> None:
    project.change(TWO % {"n": 4})
    aws.client("s3").put_object(Bucket=BUCKET, Key=LOCK, Body=json.dumps(HELD).encode())
    try:
        refused = project.deploy(sandbox)
        assert (refused.status, error(refused)["id"]) == (6, "terraform-locked")
        assert HELD["ID"] in error(refused)["message"]
        assert "eve@host since 2026-02-03" in error(refused)["message"]
        assert "waiting up to 6s for it" in refused.err
        assert json.loads(aws.get(BUCKET, LOCK)) == HELD
    finally:
        aws.client("s3").delete_object(Bucket=BUCKET, Key=LOCK)


def test_a_lock_that_is_released_meanwhile_is_taken(
    project: ApplyProject, sandbox: Sandbox, aws: Aws
) -> None:
    project.change(TWO % {"n": 5})
    aws.client("s3").put_object(Bucket=BUCKET, Key=LOCK, Body=json.dumps(HELD).encode())
    child = project.start("run", **project.job(sandbox))
    assert child.stderr is not None
    seen = []
    for line in child.stderr:
        seen.append(line)
        if "waiting up to" in line:
            aws.client("s3").delete_object(Bucket=BUCKET, Key=LOCK)
            break
    _, rest = child.communicate(timeout=120)
    assert child.returncode == 0, "".join(seen) + rest
    assert addresses(aws) == {"one", "two"}
