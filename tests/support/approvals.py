"""A project with one Terraform stage in two environments, in moto's account, and `cipipe` in it as
jobs of GitLab run it. There is no sandbox: S3 is moto's.
"""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from support.tools import require

ACCOUNT, REGION = "123456789012", "eu-central-1"  # moto's own account
LEDGER = f"cipipe-{ACCOUNT}-{REGION}"
SECRET = "hunter2-Zk81xQ"

MAIN = """terraform {
  backend "s3" {}
}
variable "secret" {
  type      = string
  sensitive = true
  default   = "%s"
}
resource "terraform_data" "it" {
  input = "%s"
}
resource "terraform_data" "secret" {
  input = var.secret
}
output "version" {
  value = terraform_data.it.output
}
output "secret" {
  value     = var.secret
  sensitive = true
}
"""

CONFIG = f"""
[project]
name = "shop"
default_environment = "dev"
[environments.dev]
account_id = "{ACCOUNT}"
region = "{REGION}"
role_arn = "arn:aws:iam::{ACCOUNT}:role/deploy"
deploy_from = {{ branches = ["main"] }}
[environments.live]
account_id = "{ACCOUNT}"
region = "{REGION}"
role_arn = "arn:aws:iam::{ACCOUNT}:role/deploy"
deploy_from = {{ branches = ["main"] }}
approval = "manual"
[stages.iac]
kind = "terraform"
paths = ["infra/**"]
root = "infra"
backend = {{ bucket = "{LEDGER}", key = "{{project}}-{{environment}}.tfstate" }}
[stages.after]
kind = "command"
paths = ["infra/**"]
run = [["true"]]
needs = ["iac"]
"""

_RECORDING = """#!/bin/bash
[ -f "${@: -1}" ] && sum=$(sha256sum <"${@: -1}")
echo "$1 ${sum%%%% *}" >>'%s'
exec '%s' "$@"
"""

_AUTHOR = ("-c", "user.name=t", "-c", "user.email=t@example.com")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    document: dict[str, Any]
    err: str

    @property
    def error(self) -> tuple[int, str | None]:
        """The exit status and the error's id."""
        return self.status, (self.document.get("error") or {}).get("id")


class Infrastructure:
    """The project, its account, and what is in its bucket."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        folder.mkdir()
        self.s3 = boto3.Session("AKIAEXAMPLE", "not-a-real-key", region_name=REGION).client(
            "s3", endpoint_url=url
        )
        self.s3.create_bucket(
            Bucket=LEDGER, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        self.s3.put_bucket_versioning(Bucket=LEDGER, VersioningConfiguration={"Status": "Enabled"})
        self.env = {
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "not-a-real-key",
            "AWS_ENDPOINT_URL": url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "PATH": f"{self._recording()}{os.pathsep}{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", "/"),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "NO_COLOR": "1",
        }
        subprocess.run(["git", "init", "-q", "-b", "main"], cwd=folder, check=True)
        self.write("cipipe.toml", CONFIG)
        self.write(".gitignore", ".cipipe/\n")
        self.release("one")

    def _recording(self) -> Path:
        """A folder with a `terraform` that writes down its verb, and the SHA-256 of the file that
        it gets last, and then is the real one.
        """
        program = self.folder.parent / "recording/terraform"
        program.parent.mkdir()
        program.write_text(_RECORDING % (self.started, require("terraform", "a deployment")))
        program.chmod(0o755)
        return program.parent

    @property
    def started(self) -> Path:
        return self.folder.parent / "started"

    def terraform(self, verb: str | None = None) -> list[str]:
        """What Terraform was started with: `VERB SHA256`, or with that verb."""
        lines = self.started.read_text().splitlines() if self.started.exists() else []
        return [line for line in lines if verb is None or line.split()[0] == verb]

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *_AUTHOR, *arguments],
            cwd=self.folder,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def release(self, version: str) -> str:
        """Commit other infrastructure; returns the commit."""
        self.write("infra/main.tf", MAIN % (SECRET, version))
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", version)
        return self.git("rev-parse", "HEAD")

    def job(self, *arguments: str, pipeline: int | None = None, **variables: str) -> Ended:
        """`cipipe` in a job of the pipeline with that number; None: at a shell."""
        job = {}
        if pipeline is not None:
            job = {
                "CI": "true",
                "GITLAB_CI": "true",
                "CI_PIPELINE_SOURCE": "push",
                "CI_COMMIT_BRANCH": "main",
                "CI_COMMIT_REF_NAME": "main",
                "CI_DEFAULT_BRANCH": "main",
                "CI_PIPELINE_IID": str(pipeline),
                "CI_PIPELINE_URL": f"https://gitlab.example/shop/-/pipelines/{pipeline}",
                "CI_PROJECT_PATH": "example/shop",
                "GITLAB_USER_LOGIN": "ada",
            }
        argv = [str(Path(sys.executable).parent / "cipipe"), *arguments, "--format", "json"]
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env={**self.env, **job, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(done.returncode, json.loads(done.stdout), done.stderr)

    def save(self, environment: str = "live", *more: str, pipeline: int = 7) -> str:
        """Save a plan; returns its ID."""
        saved = self.job("iac", "plan", "--save", "--env", environment, *more, pipeline=pipeline)
        assert saved.status == 0, saved.err
        return str(saved.document["saved"]["id"])

    def apply(self, plan: str, *more: str, environment: str = "live", pipeline: int = 7) -> Ended:
        return self.job(
            "iac", "apply", "--env", environment, "--plan", plan, *more, pipeline=pipeline
        )

    def saved(self, plan: str, ending: str = "json") -> str:
        """The key of a saved plan's description, or of the plan itself: `tfplan`."""
        environment, stage = plan.split(".")[:2]
        return f"cipipe-plans/ledger/shop/{environment}/{stage}/{plan}.{ending}"

    def change(self, plan: str, body: bytes | None = None, **fields: Any) -> None:
        """Change the description of a saved plan; with a `body`, the plan itself as well."""
        described = json.loads(self.body(self.saved(plan)) or b"")
        if body is not None:
            fields["sha256"] = hashlib.sha256(body).hexdigest()
            self.put(self.saved(plan, "tfplan"), body)
        self.put(self.saved(plan), json.dumps(described | fields).encode())

    def put(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=LEDGER, Key=key, Body=body)

    def body(self, key: str) -> bytes | None:
        try:
            found: bytes = self.s3.get_object(Bucket=LEDGER, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None
        return found

    def states(self) -> dict[str, bytes | None]:
        """The Terraform states and the records of both environments."""
        names = ("dev", "live")
        keys = [f"shop-{name}.tfstate" for name in names]
        keys += [f"ledger/shop/{name}/iac.json" for name in names]
        return {key: self.body(key) for key in keys}

    def versions(self) -> dict[str, bytes]:
        """Every version of every object in the bucket, by key and version."""
        listed = self.s3.list_object_versions(Bucket=LEDGER).get("Versions", [])
        return {
            f"{one['Key']}?{one['VersionId']}": self.s3.get_object(
                Bucket=LEDGER, Key=one["Key"], VersionId=one["VersionId"]
            )["Body"].read()
            for one in listed
        }

    def applied(self, environment: str = "live") -> str | None:
        """The version that the state has."""
        state = self.body(f"shop-{environment}.tfstate")
        outputs = json.loads(state)["outputs"] if state else {}
        return outputs["version"]["value"] if "version" in outputs else None
