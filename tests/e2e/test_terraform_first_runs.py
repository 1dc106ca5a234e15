"""`cipipe run` with real Terraform, S3 of moto's and no sandbox: first deployments that race, and
what a run leaves.
"""

import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from support import statestore
from support.statestore import Store
from support.tools import require

ACCOUNT, REGION = "123456789012", "eu-central-1"  # moto's own account
BUCKET, OTHER_BUCKET = f"cipipe-{ACCOUNT}-{REGION}", "other-ledger"
AUTHOR = ("-c", "user.name=t", "-c", "user.email=t@example.com")
MAIN = """terraform {
  backend "%s" {}
}
resource "terraform_data" "it" {
  provisioner "local-exec" {
    command = "echo made >> %s"
  }
}
"""


@pytest.fixture
def store() -> Iterator[Store]:
    with statestore.serving() as serving:
        yield serving


@pytest.fixture
def env(endpoint: str, store: Store) -> Iterator[dict[str, str]]:
    """The environment of a shell that has keys for the account, and buckets for two ledgers."""
    require("terraform", "a deployment")
    keys = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"}
    s3 = boto3.Session("AKIAEXAMPLE", "example", region_name=REGION).resource(
        "s3", endpoint_url=endpoint
    )
    buckets = [
        s3.create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        for name in (BUCKET, OTHER_BUCKET)
    ]
    yield {
        **keys,
        **store.login(store.url),
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ENDPOINT_URL_STS": endpoint,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "NO_COLOR": "1",
    }
    for bucket in buckets:
        bucket.objects.delete()
        bucket.delete()


def project(
    folder: Path,
    main: str,
    backend: dict[str, Any],
    *,
    name: str = "shop",
    ledger: str = BUCKET,
    **settings: str,
) -> Path:
    """A repository with one Terraform stage."""
    (folder / "infra").mkdir(parents=True)
    (folder / "infra/main.tf").write_text(main)
    given = ", ".join(f"{key} = {json.dumps(value)}" for key, value in backend.items())
    more = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    (folder / "cipipe.toml").write_text(f"""
[project]
name = "{name}"
default_environment = "dev"
[ledger]
bucket = "{ledger}"
[environments.dev]
account_id = "{ACCOUNT}"
region = "{REGION}"
role_arn = "arn:aws:iam::{ACCOUNT}:role/deploy"
[stages.net]
kind = "terraform"
paths = ["infra/**"]
root = "infra"
backend = {{ {given} }}
{more}""")
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "Begin"]):
        subprocess.run(["git", *AUTHOR, *arguments], cwd=folder, check=True)
    return folder


def start(folder: Path, env: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    argv = [str(Path(sys.executable).parent / "cipipe"), *arguments]
    return subprocess.Popen(
        argv,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def cipipe(folder: Path, env: dict[str, str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, JSON answer, standard error."""
    child = start(folder, env, *arguments, "--format", "json")
    out, err = child.communicate(timeout=120)
    return child.returncode, json.loads(out), err


def raced(folders: list[Path], env: dict[str, str]) -> list[tuple[int, dict[str, Any], str]]:
    children = [start(folder, env, "run", "--format", "json") for folder in folders]
    ended = [child.communicate(timeout=180) for child in children]
    return [
        (child.returncode, json.loads(out), err)
        for child, (out, err) in zip(children, ended, strict=True)
    ]


def test_two_first_runs_of_one_project(env: dict[str, str], tmp_path: Path) -> None:
    """Two jobs, each with its own clone; the ledger lets one of them start."""
    made = tmp_path / "made"
    first = project(
        tmp_path / "first", MAIN % ("s3", made), {"bucket": BUCKET, "key": "net.tfstate"}
    )
    second = tmp_path / "second"
    subprocess.run(["git", "clone", "-q", str(first), str(second)], check=True)
    ended = raced([first, second], env)
    assert made.read_text() == "made\n", ended
    for status, answer, err in ended:
        error = (answer.get("error") or {}).get("id")
        assert (status, error) in {(0, None), (6, "ledger-conflict")}, err
    assert cipipe(second, env, "run")[0] == 0
    assert made.read_text() == "made\n"


def test_two_first_runs_that_share_only_the_state(
    env: dict[str, str], store: Store, tmp_path: Path
) -> None:
    """No ledger in common: both find that there is no state before either goes on."""
    made = tmp_path / "made"
    store.meeting = threading.Barrier(2)
    folders = [
        project(
            tmp_path / name,
            MAIN % ("http", made),
            {"type": "http", **store.settings("net")},
            name=name,
            ledger=ledger,
        )
        for name, ledger in (("one", BUCKET), ("other", OTHER_BUCKET))
    ]
    ended = raced(folders, env)
    assert made.read_text() == "made\n", ended
    for status, answer, err in ended:
        error = (answer.get("error") or {}).get("id")
        clear = {"terraform-plan-stale", "terraform-locked", "terraform-lock-taken"}
        assert (status == 0 and error is None) or (status == 6 and error in clear), err
    assert 0 in [status for status, _, _ in ended]
    assert store.locks == {}


def test_a_lock_is_released_by_the_command_that_is_printed(
    env: dict[str, str], store: Store, tmp_path: Path
) -> None:
    folder = project(
        tmp_path / "p",
        MAIN % ("http", tmp_path / "made"),
        {"type": "http", **store.settings("net")},
        lock_timeout="0s",
    )
    for arguments in (["mv", "cipipe.toml", "other place.toml"], ["commit", "-q", "-m", "Move"]):
        subprocess.run(["git", *AUTHOR, *arguments], cwd=folder, check=True)
    store.hold("net")
    status, answer, _ = cipipe(folder, env, "run", "--config", "other place.toml")
    assert (status, answer["error"]["id"]) == (6, "terraform-locked")
    command = answer["error"]["hint"].partition("by hand: cipipe ")[2]
    assert command.startswith("iac unlock --env dev --stage net --config 'other place.toml' ")
    shell = ["sh", "-c", f"exec {Path(sys.executable).parent / 'cipipe'} {command}"]
    released = subprocess.run(
        shell, cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert released.returncode == 0, released.stderr
    assert store.locks == {}
    again = subprocess.run(shell, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert again.returncode == 4
    assert "terraform-lock-unknown" in again.stderr
    assert "released" not in again.stdout


def test_a_root_without_a_block_writes_nothing(env: dict[str, str], tmp_path: Path) -> None:
    main = (MAIN % ("s3", tmp_path / "made")).replace('  backend "s3" {}\n', "")
    folder = project(tmp_path / "p", main, {"bucket": BUCKET, "key": "net.tfstate"})
    status, answer, _ = cipipe(folder, env, "run")
    assert (status, answer["error"]["id"]) == (5, "terraform-state-not-kept")
    assert answer["error"]["where"] == "infra/backend.tf"
    assert not (tmp_path / "made").exists()
    assert [path.name for path in (folder / "infra").iterdir()] == ["main.tf"]
    assert (
        cipipe(folder, env, "status")[1]["environments"][0]["stages"][0]["state"]
        == "never-deployed"
    )


def test_another_workspace_is_asked_for_by_the_configuration_alone(
    env: dict[str, str], tmp_path: Path
) -> None:
    main = (
        MAIN % ("s3", tmp_path / "made")
        + 'output "workspace" {\n  value = terraform.workspace\n}\n'
    )
    folder = project(
        tmp_path / "p", main, {"bucket": BUCKET, "key": "net"}, workspace="{project}-{environment}"
    )
    status, answer, _ = cipipe(folder, {**env, "TF_WORKSPACE": "blue"}, "run")
    assert (status, answer["error"]["id"]) == (2, "terraform-workspace-variable")
    status, _, err = cipipe(folder, {**env, "TF_WORKSPACE": "shop-dev"}, "run")
    assert status == 0, err
    s3 = boto3.client(
        "s3",
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=REGION,
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert "env:/shop-dev/net" in keys
    assert "net" not in keys


def test_a_run_leaves_no_dependency_lock_file(env: dict[str, str], tmp_path: Path) -> None:
    """With a provider, for which Terraform writes one; that it cannot be started is as good as any
    other failure.

    Later the root wants another version than the first run chose.
    """
    mirror = tmp_path / "home/.terraform.d/plugins/example.com/acme/nothing"
    for version in ("1.0.0", "2.0.0"):
        program = mirror / version / PLATFORM / f"terraform-provider-nothing_v{version}"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\n# {version}\n")
        program.chmod(0o755)
    env = {**env, "HOME": str(tmp_path / "home")}
    main = MAIN % ("s3", tmp_path / "made") + NEEDS
    folder = project(tmp_path / "p", main, {"bucket": BUCKET, "key": "net"})
    before = cipipe(folder, env, "plan", "--worktree")[1]["stages"][0]["fingerprint"]
    for _ in range(2):
        status, answer, err = cipipe(folder, env, "run")
        assert (status, answer["error"]["id"]) == (4, "terraform-failed"), err
        assert "terraform plan failed" in answer["error"]["message"]
        assert [path.name for path in (folder / "infra").iterdir()] == ["main.tf"]
    (folder / "infra/.terraform.lock.hcl").write_text("# what a killed run left\n")
    marker = folder / ".cipipe/terraform/dev/net/lock-file-in"
    marker.write_text(f"{folder / 'infra/.terraform.lock.hcl'}\n")
    assert cipipe(folder, env, "plan", "--worktree")[1]["stages"][0]["fingerprint"] == before
    assert not marker.exists()

    (folder / "infra/main.tf").write_text(main.replace("1.0.0", "2.0.0"))
    subprocess.run(["git", *AUTHOR, "commit", "-qam", "Upgrade"], cwd=folder, check=True)
    _, answer, err = cipipe(folder, env, "run")
    assert "terraform plan failed" in answer["error"]["message"], err
    assert "2.0.0" in (folder / ".cipipe/terraform/dev/net/dependencies.lock.hcl").read_text()


NEEDS = """terraform {
  required_providers {
    nothing = {
      source  = "example.com/acme/nothing"
      version = "1.0.0"
    }
  }
}
"""
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
PLATFORM = f"{platform.system().lower()}_{MACHINE}"
