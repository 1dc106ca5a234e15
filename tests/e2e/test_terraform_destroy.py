"""`cipipe destroy` of real Terraform on moto: what would be lost is listed and what blocks it is
found before anything is deleted; what is in the way is emptied only if that was asked for.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests

from support.command import Done
from support.flaky import Asked
from support.recording import RecordingProxy
from support.tools import require

ACCOUNT, REGION = "123456789012", "eu-central-1"  # moto's own account
LEDGER = f"cipipe-{ACCOUNT}-{REGION}"
LOCK = f"/{LEDGER}/shop-dev.tfstate.tflock"
AUTHOR = ("-c", "user.name=t", "-c", "user.email=t@example.com")

CONFIG = f"""
[project]
name = "shop"
default_environment = "dev"

[environments.dev]
account_id = "{ACCOUNT}"
region = "{REGION}"
role_arn = "arn:aws:iam::{ACCOUNT}:role/deploy"

[stages.iac]
kind = "terraform"
paths = ["infra/**"]
root = "infra"
backend = {{ bucket = "{LEDGER}", key = "shop-dev.tfstate", use_path_style = "true" }}

[stages.dags]
kind = "dags"
paths = ["dags/**"]
source = "dags"
bucket = {{ output = "dags_bucket" }}
needs = ["iac"]
"""

HEAD = f"""
terraform {{
  required_providers {{
    aws = {{ source = "hashicorp/aws", version = "~> 5.100" }}
  }}
  backend "s3" {{}}
}}

provider "aws" {{
  region                      = "{REGION}"
  max_retries                 = 2
  s3_use_path_style           = true
  skip_credentials_validation = true
}}
"""

STACK = """
resource "aws_s3_bucket" "dags" {
  bucket = "shop-dev-dags"
}

resource "aws_s3_bucket_versioning" "dags" {
  bucket = aws_s3_bucket.dags.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_ecr_repository" "dbt" {
  name = "shop-dev-dbt"
}

output "dags_bucket" {
  value = aws_s3_bucket.dags.id
}
"""

# Each of these is in the way in its own manner, or stays for a while.
GUARDED = """
resource "aws_dynamodb_table" "sessions" {
  name                        = "shop-dev-sessions"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "id"
  deletion_protection_enabled = true

  attribute {
    name = "id"
    type = "S"
  }
}

resource "aws_secretsmanager_secret" "warehouse" {
  name                    = "shop/dev/warehouse"
  recovery_window_in_days = 7
}

# It has the state before it is part of the stack.
import {
  to = aws_s3_bucket.state
  id = "shop-dev-state"
}

resource "aws_s3_bucket" "state" {
  bucket = "shop-dev-state"
}

resource "aws_s3_bucket" "lake" {
  bucket = "shop-dev-lake"
}

module "archive" {
  source = "./archive"
}
"""

KEPT = """resource "aws_s3_bucket" "kept" {
  for_each = toset(["a"])
  bucket   = "shop-dev-archive-${each.key}"

  lifecycle {
    prevent_destroy = true
  }
}
"""

MERGE_REQUESTS = {
    "github": {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_HEAD_REF": "change",
        "GITHUB_BASE_REF": "main",
        "GITHUB_REF_NAME": "7/merge",
        "GITHUB_REPOSITORY": "group/shop",
    },
    "gitlab": {
        "CI": "true",
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "merge_request_event",
        "CI_MERGE_REQUEST_IID": "7",
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        "CI_COMMIT_REF_NAME": "change",
        "CI_PROJECT_PATH": "group/shop",
    },
}

MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": 2,
            "digest": "sha256:" + "0" * 64,
        },
        "layers": [],
    }
)


class Destroyed(Done):
    """How a command ended."""

    def found(self, stage: str, topic: str) -> list[Any]:
        """What the pre-flight found out about a stage."""
        (entry,) = [one for one in self.document["stages"] if one["name"] == stage]
        found: list[Any] = entry["findings"]["destroy"][topic]
        return found

    def problems(self, topic: str = "blockers") -> dict[str, str]:
        """The blockers, or the warnings, of the `terraform` stage: where by id."""
        return {one["id"]: one["where"] for one in self.found("iac", topic)}


@dataclass
class Shop:
    """An account with a project that is deployed to it, through a proxy that keeps the requests."""

    folder: Path
    proxy: RecordingProxy
    env: dict[str, str] = field(default_factory=dict)
    # The process id of the last command.
    running: int = 0

    def __post_init__(self) -> None:
        self.env = {
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "example",
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "AWS_ENDPOINT_URL": self.proxy.url,
            "AWS_ENDPOINT_URL_STS": self.proxy.url,
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "NO_COLOR": "1",
        }
        self.create_bucket(LEDGER)

    def create_bucket(self, name: str) -> None:
        self.client("s3").create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
        )

    def during(self, match: Callable[[Asked], bool], number: signal.Signals) -> None:
        """Send a signal to the next command when it makes such a request, once. What it asked for
        is done only if it may still wait for that.
        """

        def before(asked: Asked) -> bool:
            if not match(asked):
                return False
            self.proxy.before = lambda _: False
            os.kill(self.running, number)
            return number is signal.SIGKILL

        self.proxy.before = before

    def client(self, service: str) -> Any:
        session: Any = boto3.Session("AKIAEXAMPLE", "example", region_name=REGION)
        return session.client(service, endpoint_url=f"http://{self.proxy.place}")

    def commit(self, infra: str, **files: str) -> None:
        written = {
            "cipipe.toml": CONFIG,
            "infra/main.tf": HEAD + infra,
            "dags/a.py": "from airflow import DAG\n",
            ".gitignore": ".terraform*\n.cipipe/\n",
            **files,
        }
        for name, content in written.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(content)
        if not (self.folder / ".git").exists():
            self._git("init", "-q", "-b", "main")
        self._git("add", "-A")
        self._git("commit", "-q", "--allow-empty", "-m", "Change the stack")

    def start(self, *arguments: str, **env: str) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [str(Path(sys.executable).parent / "cipipe"), *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )

    def cipipe(self, *arguments: str, **env: str) -> Destroyed:
        child = self.start(*arguments, **env)
        self.running = child.pid
        out, err = child.communicate(timeout=240)
        assert "Traceback" not in err, err
        return Destroyed(child.returncode, out, err)

    def run(self) -> None:
        done = self.cipipe("run", "--env", "dev")
        assert done.status == 0, done.err

    def destroy(self, *options: str, **env: str) -> Destroyed:
        self.proxy.asked.clear()
        confirmed = () if "--dry-run" in options else ("--confirm", "dev")
        return self.cipipe(
            "destroy", "--env", "dev", *confirmed, "--format", "json", *options, **env
        )

    def objects(self, bucket: str = "shop-dev-dags") -> int:
        """The versions and delete markers in a bucket."""
        found = self.client("s3").list_object_versions(Bucket=bucket)
        return len(found.get("Versions", [])) + len(found.get("DeleteMarkers", []))

    def put(self, key: str, body: bytes = b"x", **more: Any) -> None:
        self.client("s3").put_object(Bucket="shop-dev-dags", Key=key, Body=body, **more)

    def push(self, *tags: str) -> None:
        for tag in tags:
            self.client("ecr").put_image(
                repositoryName="shop-dev-dbt", imageManifest=MANIFEST, imageTag=tag
            )

    def change_state(self) -> None:
        """As another run does that applies something."""
        s3 = self.client("s3")
        place = {"Bucket": LEDGER, "Key": "shop-dev.tfstate"}
        state = json.loads(s3.get_object(**place)["Body"].read())
        state["serial"] += 1
        s3.put_object(**place, Body=json.dumps(state).encode())

    def left(self) -> set[str]:
        """What of the stack is there."""
        buckets = self.client("s3").list_buckets()["Buckets"]
        repositories = self.client("ecr").describe_repositories()["repositories"]
        names = {one["Name"] for one in buckets} - {LEDGER}
        return names | {one["repositoryName"] for one in repositories}

    def states(self) -> set[str]:
        s3 = self.client("s3")
        keys = [f"ledger/shop/dev/{stage}.json" for stage in ("iac", "dags")]
        bodies = [s3.get_object(Bucket=LEDGER, Key=key)["Body"].read() for key in keys]
        return {json.loads(body)["state"] for body in bodies}

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *AUTHOR, *arguments], cwd=self.folder, check=True)


@pytest.fixture(scope="module")
def filled(moto_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The stack, with objects, old versions and an image that no stage put there. The tests
    destroy it step by step; those that use `endpoint`, which empties moto, come after them.
    """
    require("terraform", "a destroy")
    requests.post(f"{moto_server}/moto-api/reset", timeout=10)
    with RecordingProxy(moto_server) as proxy:
        shop = Shop(tmp_path_factory.mktemp("filled") / "shop", proxy)
        shop.commit(STACK)
        shop.run()
        shop.put("reports/2026.csv", b"old")
        shop.put("reports/2026.csv", b"new")
        shop.client("s3").delete_object(Bucket="shop-dev-dags", Key="reports/2026.csv")
        shop.put("lake/data.parquet")
        shop.push("by-hand")
        yield shop


def test_a_dry_run_lists_everything_and_writes_nothing(filled: Shop) -> None:
    dry = filled.destroy("--dry-run", "--empty")
    assert dry.status == 0, dry.err
    assert len(filled.proxy.asked) > 20
    assert filled.proxy.writes == []
    assert {one["result"] for one in dry.document["stages"]} == {"skipped"}
    assert dry.document["failed"] is False

    lost = {(one["sort"], one["name"]): one for one in dry.found("iac", "lost")}
    types = [one["name"] for one in dry.found("iac", "lost") if one["sort"] == "resource"]
    assert types == ["aws_ecr_repository", "aws_s3_bucket", "aws_s3_bucket_versioning"]
    assert lost["resource", "aws_s3_bucket"]["addresses"] == ["aws_s3_bucket.dags"]
    objects = lost["object", "s3://shop-dev-dags"]
    assert (objects["count"], objects["versions"], objects["unowned"]) == (2, 5, 4)
    (dag,) = dry.found("dags", "lost")
    assert (dag["sort"], dag["name"], dag["count"]) == ("object", "s3://shop-dev-dags", 1)


def test_non_empty_places_are_refused_and_nothing_is_deleted(filled: Shop) -> None:
    refused = filled.destroy()
    assert (refused.status, refused.error) == (5, "destroy-blocked")
    assert refused.problems() == {
        "destroy-foreign-objects": "aws_s3_bucket.dags",
        "destroy-foreign-images": "aws_ecr_repository.dbt",
    }
    assert "by-hand" in refused.err
    assert "4 versions of objects that no stage owns: lake/data.parquet, reports/" in refused.err
    assert filled.objects() == 5, "three versions and a marker of others, and a DAG"
    assert filled.left() == {"shop-dev-dags", "shop-dev-dbt"}
    assert filled.states() == {"deployed"}
    written = {asked.path.partition("?")[0] for asked in filled.proxy.writes}
    assert written == {LOCK}, "only the state was locked"


def test_killed_while_it_empties_a_bucket(filled: Shop) -> None:
    filled.during(lambda asked: asked.path.endswith("?delete="), signal.SIGKILL)
    assert filled.destroy("--empty").status == -signal.SIGKILL
    assert filled.states() == {"deploying", "destroyed"}, "the DAGs are gone"
    assert filled.objects() == 4


def test_a_state_that_changed_meanwhile_is_a_conflict(filled: Shop) -> None:
    """Exactly the plan that was shown is applied, or nothing."""

    def before(asked: Asked) -> bool:
        if asked.path.endswith("?delete="):
            filled.proxy.before = lambda _: False
            filled.change_state()
        return False

    filled.proxy.before = before
    stale = filled.destroy("--empty")
    assert (stale.status, stale.error) == (6, "terraform-plan-stale")
    emptied = {"name": "s3://shop-dev-dags", "sort": "version", "count": 4}
    assert stale.found("iac", "emptied") == [emptied]
    assert filled.left() == {"shop-dev-dags", "shop-dev-dbt"}


def test_what_is_left_after_an_error_is_named(filled: Shop) -> None:
    filled.proxy.before = lambda asked: asked.operation == "DeleteRepository"
    failed = filled.destroy("--empty")
    assert (failed.status, failed.error) == (4, "terraform-partly-applied")
    assert failed.found("iac", "emptied") == [], "it is empty already"
    assert failed.found("iac", "left") == ["aws_ecr_repository.dbt"]
    assert "left (1): aws_ecr_repository.dbt" in failed.document["error"]["message"]
    assert filled.states() == {"failed", "destroyed"}
    assert filled.left() == {"shop-dev-dbt"}


def test_stopped_while_terraform_destroys(filled: Shop) -> None:
    filled.during(lambda asked: asked.operation == "DeleteRepository", signal.SIGTERM)
    stopped = filled.destroy()
    assert stopped.status == 130, stopped.err
    assert filled.states() == {"failed", "destroyed"}


def test_it_finishes_and_twice_is_fine(filled: Shop) -> None:
    filled.proxy.before = lambda _: False
    done = filled.destroy()
    assert done.status == 0, done.err
    assert filled.left() == set()
    assert filled.states() == {"destroyed"}

    again = filled.destroy()
    assert again.status == 0, again.err
    assert {one["detail"] for one in again.document["stages"]} == {"nothing of it is deployed"}
    assert filled.proxy.writes == []
    assert filled.destroy("--dry-run").status == 0


def test_everything_that_blocks_is_reported_at_once(endpoint: str, tmp_path: Path) -> None:
    require("terraform", "a destroy")
    with RecordingProxy(endpoint) as proxy:
        shop = Shop(tmp_path / "shop", proxy)
        shop.create_bucket("shop-dev-state")
        config = CONFIG.replace(f'bucket = "{LEDGER}"', 'bucket = "shop-dev-state"')
        config = config[: config.index("[stages.dags]")]
        shop.commit(GUARDED, **{"cipipe.toml": config, "infra/archive/main.tf": KEPT})
        shop.client("s3").put_object(Bucket="shop-dev-state", Key="of-a-person", Body=b"x")
        shop.run()
        shop.client("s3").put_object(Bucket="shop-dev-lake", Key="a.parquet", Body=b"x")

        refused = shop.destroy()
        assert (refused.status, refused.error) == (5, "destroy-blocked")
        assert refused.problems() == {
            "terraform-prevent-destroy": "infra/archive/main.tf:1",
            "destroy-own-state": "aws_s3_bucket.state",
            "destroy-deletion-protection": "aws_dynamodb_table.sessions",
            "destroy-foreign-objects": "aws_s3_bucket.lake",
        }
        assert 'module.archive.aws_s3_bucket.kept["a"] has prevent_destroy' in refused.err
        assert refused.problems("warnings") == {
            "destroy-recovery-window": "aws_secretsmanager_secret.warehouse"
        }
        assert "7 days" in refused.err
        assert len(refused.document["error"]["problems"]) == 4
        lost = {one["name"]: one["count"] for one in refused.found("iac", "lost")}
        assert lost["aws_s3_bucket"] == 3, "that of the module, too"

        text = shop.cipipe("destroy", "--env", "dev", "--dry-run", "--empty")
        assert text.status == 5
        assert "destroy-own-state" in text.err, "not even with --empty"
        assert "destroy-foreign-objects" not in text.err
        assert shop.objects("shop-dev-lake") == 1


@pytest.mark.parametrize("provider", MERGE_REQUESTS)
@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--empty",)])
def test_the_job_of_a_merge_request_sends_no_request(
    endpoint: str, tmp_path: Path, provider: str, options: tuple[str, ...]
) -> None:
    with RecordingProxy(endpoint) as proxy:
        shop = Shop(tmp_path / "shop", proxy)
        shop.commit(STACK)
        refused = shop.destroy(*options, **MERGE_REQUESTS[provider])
        assert (refused.status, refused.error) == (5, "merge-request-read-only")
        assert proxy.asked == []
