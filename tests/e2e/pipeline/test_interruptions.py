"""Killed, cancelled, locked: the next run finishes the work, and nothing is left that nobody
knows of.
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from support.clone import Aws, Clone, FirstRun

MANY = 300


def test_sigkill_during_the_image_stage(deployed: FirstRun, clone: Clone, aws: Aws) -> None:
    clone.commit("dbt/models/marts/emp_fact.sql", "\n-- before the kill\n")
    killed = clone.interrupted_at("docker push", signal.SIGKILL)
    assert killed.status == -signal.SIGKILL
    done = clone.run()
    assert done.status == 0, done.text
    assert done.results()["image"] == "done"
    assert aws.record("image")["state"] == "deployed"


def test_sigkill_during_the_dags_stage(deployed: FirstRun, clone: Clone, aws: Aws) -> None:
    bucket = aws.outputs()["dags_bucket"]
    before = aws.keys(bucket, "dags/")
    for number in range(MANY):
        (clone.folder / f"dags/helper_{number}.py").write_text(f"NUMBER = {number}\n")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "-m", "Add many helpers")
    killed = clone.interrupted_at("uploaded dags/", signal.SIGKILL)
    assert killed.status == -signal.SIGKILL
    assert aws.record("dags")["state"] == "deploying"
    assert set(aws.keys(bucket, "dags/")) <= set(aws.record("dags")["data"]["manifest"])
    assert clone.plan()["dags"] == ("due", "not-finished")
    done = clone.run()
    assert done.status == 0, done.text
    assert len(aws.keys(bucket, "dags/")) == len(before) + MANY
    assert set(aws.keys(bucket, "dags/")) == set(aws.record("dags")["data"]["manifest"])
    clone.git("rm", "--quiet", "dags/helper_*.py")
    clone.git("commit", "--quiet", "-m", "Remove them")
    done = clone.run()
    assert done.status == 0, done.text
    assert aws.keys(bucket, "dags/") == before


def test_sigterm_during_terraform(deployed: FirstRun, clone: Clone, aws: Aws) -> None:
    before = len(_vpcs(aws))
    clone.commit("terraform/network.tf", _SLOW)
    stopped = clone.interrupted_at("terraform_data.slow: Provisioning", signal.SIGTERM)
    assert stopped.status == 130, stopped.text
    assert "interrupted during stage iac" in stopped.err
    assert aws.record("iac")["state"] == "failed"
    assert _locks(aws) == []  # terraform was waited for, and released its lock
    done = clone.run()
    assert done.status == 0, done.text
    # The first attempt left none that Terraform does not know of.
    assert len(_vpcs(aws)) == before + 1
    clone.git("revert", "--no-edit", "HEAD")
    assert clone.run("--allow-replace").status == 0
    assert len(_vpcs(aws)) == before


def test_sigterm_during_a_build_step_that_says_nothing(
    deployed: FirstRun, clone: Clone, aws: Aws
) -> None:
    """The daemon is left, and stops the build; nothing waits for the step's end."""
    clone.commit("dbt/Dockerfile", "\nRUN echo waiting && sleep 613\n")
    stopped = clone.interrupted_at("waiting", signal.SIGTERM)
    assert stopped.status == 130, stopped.text
    assert "interrupted during stage image" in stopped.err
    assert aws.record("image")["state"] == "deployed", (
        "building touches nothing outside this machine"
    )
    _wait_for(lambda: not _processes("sleep\0613"))
    clone.git("revert", "--no-edit", "HEAD")
    done = clone.run()
    assert done.status == 0, done.text
    assert done.results()["image"] == "unchanged"


def test_sigkill_of_terraform_itself(deployed: FirstRun, clone: Clone, aws: Aws) -> None:
    config = clone.folder / "cipipe.toml"
    text = config.read_text()
    stage = "[stages.iac]\n"
    assert stage in text
    config.write_text(text.replace(stage, f'{stage}lock_timeout = "0s"\n'))
    clone.git("commit", "--quiet", "--all", "-m", "Wait for no lock")
    clone.commit("terraform/outputs.tf", "\n# before the kill\n")
    child = clone.start("run", "--sandbox", "--env", "dev")
    assert child.stderr is not None
    for line in child.stderr:
        if "terraform plan in" in line:
            break
    _wait_for(lambda: _locks(aws) != [])
    os.kill(_terraform_below(child.pid), signal.SIGKILL)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 4, err
    assert "was killed by SIGKILL" in err
    assert len(_locks(aws)) == 1
    refused = clone.run()
    assert refused.status == 6, refused.text
    error = refused.document["error"]
    assert error["id"] == "terraform-locked"
    lock_id = re.search(r"lock ID ([0-9a-f-]{36})", error["message"])
    assert lock_id
    assert "@" in error["message"]  # who holds it
    command = re.search(r"cipipe (iac unlock .*)$", error["hint"])
    assert command
    assert command[1].endswith(lock_id[1])
    released = clone.cipipe(*command[1].split())
    assert released.status == 0, released.text
    config.write_text(text)
    clone.git("commit", "--quiet", "--all", "-m", "Wait for locks again")
    done = clone.run()
    assert done.status == 0, done.text


# Interrupted when the VPC is there. While AWS is asked for it would be by chance whether Terraform
# hears of its id.
_SLOW = """
resource "aws_vpc" "extra" {
  cidr_block = "10.99.0.0/16"
}

resource "terraform_data" "slow" {
  depends_on = [aws_vpc.extra]
  provisioner "local-exec" {
    command = "test -e ../.git/once || { touch ../.git/once; sleep 60; }"
  }
}
"""


def _vpcs(aws: Aws) -> list[str]:
    tagged = [{"Name": "tag:project", "Values": ["dbt-deployment"]}]
    return [vpc["VpcId"] for vpc in aws.client("ec2").describe_vpcs(Filters=tagged)["Vpcs"]]


def _locks(aws: Aws) -> list[str]:
    keys = aws.keys("cipipe-111111111111-eu-central-1", "terraform/")
    return [key for key in keys if key.endswith(".tflock")]


def _terraform_below(pid: int) -> int:
    """The process id of the terraform that a process started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        name, rest = (
            text[text.index("(") + 1 : text.rindex(")")],
            text[text.rindex(")") + 2 :].split(),
        )
        if name == "terraform" and rest[0] != "Z" and int(rest[1]) == pid:
            return int(stat.parent.name)
    message = "terraform is not running"
    raise AssertionError(message)


def _processes(words: str) -> list[str]:
    """The processes of this machine, containers included, with these words in their arguments."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if words in file.read_text(errors="replace"):
                found.append(str(file))
    return found


def _wait_for(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)
