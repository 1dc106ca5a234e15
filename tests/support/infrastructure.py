"""A project with one Terraform stage, in a sandbox whose roles `cipipe bootstrap` made, and
`cipipe` as jobs of GitLab run it.
"""

import base64
import json
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from support.clone import Aws, Clone, Outcome
from support.environment import shell_environment
from support.tools import require

ACCOUNT, REGION = "111111111111", "eu-central-1"
BUCKET = f"cipipe-{ACCOUNT}-{REGION}"
LEDGER = "ledger/shop/dev/"
STATE = "terraform/shop/dev.tfstate"

HEAD = """
[project]
name = "shop"
default_environment = "dev"

[oidc]
gitlab = {{ project = "group/shop" }}

[environments.dev]
account_id = "111111111111"
region = "eu-central-1"
role_arn = "arn:aws:iam::111111111111:role/shop-deploy"
verify_role_arn = "arn:aws:iam::111111111111:role/shop-verify"
deploy_from = {{ branches = ["main"] }}
{environment}
"""

IAC = """
[stages.iac]
kind = "terraform"
paths = ["infra/**"]
root = "infra"
[stages.iac.backend]
bucket = "cipipe-{account_id}-{region}"
key = "terraform/{project}/{environment}.tfstate"
"""

PROVIDERS = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws", version = "~> 5.100" }
  }
  backend "s3" {}
}

provider "aws" {
  max_retries = 2
}
"""

_PUSH = {
    "CI_PIPELINE_SOURCE": "push",
    "CI_COMMIT_BRANCH": "main",
    "CI_COMMIT_REF_PROTECTED": "true",
}


@dataclass
class Infrastructure:
    """The repository, its sandbox, and what is in the account."""

    clone: Clone
    aws: Aws
    # Of the next pipeline.
    _sequence: int = 0

    @property
    def folder(self) -> Path:
        return self.clone.folder

    def commit(self, files: dict[str, str]) -> str:
        """Write the files and commit them on the branch that is checked out."""
        for name, text in files.items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.clone.git("add", "--all")
        self.clone.git("commit", "--quiet", "--allow-empty", "-m", "Change it")
        return self.clone.git("rev-parse", "HEAD")

    def squashed(self, branch: str) -> str:
        """Merge a branch into main as one new commit, and check main out."""
        self.clone.git("checkout", "--quiet", "main")
        self.clone.git("merge", "--quiet", "--squash", branch)
        self.clone.git("commit", "--quiet", "-m", f"Merge {branch}")
        return self.clone.git("rev-parse", "HEAD")

    def merge_request(self, *arguments: str, **env: str) -> Outcome:
        """The job of merge request 5 from the branch that is checked out."""
        branch = self.clone.git("branch", "--show-current")
        return self._job(
            "merge-request",
            branch,
            arguments or ("run",),
            CI_PIPELINE_SOURCE="merge_request_event",
            CI_MERGE_REQUEST_IID="5",
            CI_MERGE_REQUEST_TARGET_BRANCH_NAME="main",
            **env,
        )

    def push(self, *arguments: str, **env: str) -> Outcome:
        """The job of a push to main."""
        return self._job(
            "push",
            "main",
            arguments or ("run",),
            **_PUSH,
            **env,
        )

    def script(self, lines: list[str], **variables: str) -> Outcome:
        """The script of a job of a push to main, in the shell that GitLab runs it in."""
        shim = self.folder.parent / "bin/cipipe"
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cipipe "$@" --sandbox\n')
        shim.chmod(0o755)
        path = f"{shim.parent}{os.pathsep}{self.clone.env['PATH']}"
        job = self._environment("push", "main", **_PUSH)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
            cwd=self.folder,
            env={**self.clone.env, **job, "PATH": path, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert job["AWS_ID_TOKEN"] not in done.stdout + done.stderr
        return Outcome(done.returncode, done.stdout, done.stderr)

    def shell(self, *arguments: str, **env: str) -> Outcome:
        """A person at a shell."""
        return self.clone.cipipe(*arguments, "--sandbox", "--env", "dev", **env)

    def as_verify(self) -> Any:
        """S3 as the verify role, with a merge request's token."""
        sandbox = self.clone.sandbox()
        url = sandbox.state.aws_url
        token = sandbox.mint(
            project="group/shop",
            ref="feature",
            ref_type="branch",
            audience="https://gitlab.com",
            event="merge-request",
        )
        keys = boto3.client("sts", region_name=REGION, endpoint_url=url)
        session = keys.assume_role_with_web_identity(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/shop-verify",
            RoleSessionName="merge-request",
            WebIdentityToken=token,
        )["Credentials"]
        return boto3.client(
            "s3",
            region_name=REGION,
            endpoint_url=url,
            aws_access_key_id=session["AccessKeyId"],
            aws_secret_access_key=session["SecretAccessKey"],
            aws_session_token=session["SessionToken"],
        )

    def keys(self, prefix: str = "") -> list[str]:
        return self.aws.keys(BUCKET, prefix)

    def object(self, key: str) -> bytes | None:
        return self.aws.get(BUCKET, key) if key in self.keys() else None

    def record(self, stage: str = "iac") -> dict[str, Any] | None:
        body = self.object(f"{LEDGER}{stage}.json")
        return dict(json.loads(body)) if body is not None else None

    def places_of(self, secret: str) -> list[str]:
        """The objects, but for states, in any version of which a secret is, however it is spelt."""
        spellings = [
            secret,
            urllib.parse.quote(secret, safe=""),
            secret.encode().hex(),
            *(base64.b64encode(b"x" * n + secret.encode())[4:-4].decode() for n in range(3)),
        ]
        s3 = self.aws.client("s3")
        pages = s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET)
        versions = [version for page in pages for version in page.get("Versions", [])]
        found = []
        for version in versions:
            key = version["Key"]
            body = s3.get_object(Bucket=BUCKET, Key=key, VersionId=version["VersionId"])["Body"]
            text = body.read().decode(errors="replace")
            if not key.endswith(".tfstate") and any(spelling in text for spelling in spellings):
                found.append(key)
        return found

    def _job(self, event: str, branch: str, command: tuple[str, ...], **env: str) -> Outcome:
        job = self._environment(event, branch, **env)
        return self.clone.cipipe(*command, "--sandbox", "--env", "dev", **job)

    def _environment(self, event: str, branch: str, **env: str) -> dict[str, str]:
        """The variables of a job of the next pipeline."""
        self._sequence += 1
        minted = self.clone.cipipe(
            *("sandbox", "token", "--env", "dev", "--provider", "gitlab", "--format", "json"),
            *("--event", event, "--branch", branch),
        )
        token = minted.document["environment"]["AWS_ID_TOKEN"]
        return {
            "CI": "true",
            "GITLAB_CI": "true",
            "CI_COMMIT_REF_NAME": branch,
            "CI_COMMIT_SHA": self.clone.git("rev-parse", "HEAD"),
            "CI_DEFAULT_BRANCH": "main",
            "CI_PROJECT_PATH": "group/shop",
            "CI_PIPELINE_IID": str(self._sequence),
            "CI_PIPELINE_URL": f"https://gitlab.com/group/shop/-/pipelines/{self._sequence}",
            "AWS_ID_TOKEN": token,
            **env,
        }


@contextmanager
def infrastructure(
    folder: Path, files: dict[str, str], *, environment: str = "", stages: str = IAC, **env: str
) -> Iterator[Infrastructure]:
    """The project with these files on main, in a sandbox of its own without Docker. `env` are
    variables of the sandbox and of all jobs.
    """
    require("terraform", "the infrastructure")
    folder.mkdir(parents=True)
    clone = Clone(folder, shell_environment() | env)
    clone.git("init", "--quiet", "--initial-branch=main")
    (folder / "cipipe.toml").write_text(HEAD.format(environment=environment) + stages)
    (folder / ".gitignore").write_text(".cipipe/\n")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "-m", "Start")
    up = clone.cipipe("sandbox", "up", "--env", "dev")
    assert up.status == 0, up.text
    try:
        yield Infrastructure(clone, Aws(clone.sandbox()))
    finally:
        clone.cipipe("sandbox", "down")
