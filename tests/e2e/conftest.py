"""One sandbox for the whole session, and a clone of this repository that is deployed into it again and again."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from tools import ROOT, require

from cipipe.sandbox import client
from cipipe.sandbox.client import Sandbox

_FOREIGN = ("AWS_", "CI", "GITLAB_", "GITHUB_", "ACTIONS_", "CIPIPE_", "TF_VAR_")


@dataclass
class Outcome:
    """One finished `cipipe`."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.out))

    def results(self) -> dict[str, str]:
        return {stage["name"]: stage["result"] for stage in self.document["stages"]}


@dataclass
class Clone:
    """A clone of the repository, and `cipipe` in it."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def git(self, *arguments: str) -> str:
        argv = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com", *arguments]
        return subprocess.run(argv, cwd=self.folder, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, path: str, text: str) -> str:
        """Append to a file, and commit that."""
        with (self.folder / path).open("a") as file:
            file.write(text)
        self.git("add", "--", path)
        self.git("commit", "--quiet", "-m", f"Change {path}")
        return self.git("rev-parse", "HEAD")

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [Path(sys.executable).parent / "cipipe", *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cipipe(self, *arguments: str, **env: str) -> Outcome:
        child = self.start(*arguments, **env)
        out, err = child.communicate(timeout=600)
        return Outcome(child.returncode, out, err)

    def run(self, *arguments: str, **env: str) -> Outcome:
        return self.cipipe("run", "--sandbox", "--env", "dev", "--format", "json", *arguments, **env)

    def plan(self, *arguments: str, **env: str) -> dict[str, tuple[str, str]]:
        """Each stage's status and reason."""
        done = self.cipipe("plan", "--sandbox", "--env", "dev", "--format", "json", *arguments, **env)
        assert done.status == 0, done.text
        return {stage["name"]: (stage["status"], stage["reason"]) for stage in done.document["stages"]}

    def interrupted_at(self, words: str, signal_number: int, *arguments: str) -> Outcome:
        """Run, and send a signal as soon as a line of progress holds the words."""
        child = self.start("run", "--sandbox", "--env", "dev", *arguments)
        assert child.stderr is not None
        seen = []
        for line in child.stderr:
            seen.append(line)
            if words in line:
                child.send_signal(signal_number)
                break
        else:
            pytest.fail(f"the run ended without saying {words!r}:\n{''.join(seen)}")
        out, err = child.communicate(timeout=120)
        return Outcome(child.returncode, out, "".join(seen) + err)


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """The clone, with a sandbox that is kept for it. The base image is the one that scripts/setup made."""
    require("terraform", "the infrastructure")
    require("dockerd", "building the image")
    require("docker-registry", "pushing the image")
    folder = tmp_path_factory.mktemp("clone") / "repository"
    subprocess.run(["git", "clone", "--quiet", "--", str(ROOT), str(folder)], check=True)
    (folder / ".cipipe").mkdir()
    (folder / ".cipipe/docker").symlink_to(require(ROOT / ".cipipe/docker", "the base image"))
    env = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    made = Clone(folder, env | _base_image())
    made.git("checkout", "--quiet", "-B", "main")
    up = made.cipipe("sandbox", "up", "--env", "dev")
    assert up.status == 0, up.text
    yield made
    made.cipipe("sandbox", "down")


@pytest.fixture(scope="session")
def sandbox(clone: Clone) -> Sandbox:
    found = client.find(clone.folder / ".cipipe/sandbox")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def deployed(clone: Clone) -> Outcome:
    """The first run of all: everything is due, everything is real."""
    done = clone.run()
    assert done.status == 0, done.text
    return done


class Aws:
    """boto3 clients of the sandbox's account, as an administrator."""

    def __init__(self, sandbox: Sandbox) -> None:
        keys = sandbox.admin_of("111111111111")
        self.sandbox = sandbox
        self._session = boto3.Session(keys.access_key_id, keys.secret_access_key, region_name="eu-central-1")

    def client(self, service: str) -> Any:
        return self._session.client(service, endpoint_url=self.sandbox.state.aws_url)  # type: ignore[call-overload]

    def get(self, bucket: str, key: str) -> bytes:
        return bytes(self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def record(self, stage: str) -> dict[str, Any]:
        body = self.get("cipipe-111111111111-eu-central-1", f"ledger/dbt-deployment/dev/{stage}.json")
        return dict(json.loads(body))

    def outputs(self) -> dict[str, Any]:
        body = self.get("cipipe-111111111111-eu-central-1", "ledger/dbt-deployment/dev/iac.outputs.json")
        return {name: output.get("value") for name, output in json.loads(body).items()}


@pytest.fixture(scope="session")
def aws(sandbox: Sandbox) -> Aws:
    return Aws(sandbox)


@pytest.fixture(scope="session")
def gitlab_job(sandbox: Sandbox) -> dict[str, str]:
    """The variables of a push to main, without a token."""
    assert sandbox
    return {
        "CI": "true",
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "push",
        "CI_COMMIT_REF_NAME": "main",
        "CI_COMMIT_BRANCH": "main",
        "CI_COMMIT_REF_PROTECTED": "true",
        "CI_DEFAULT_BRANCH": "main",
        "CI_PIPELINE_IID": "7",
        "CI_PIPELINE_URL": "https://gitlab.com/example/dbt-deployment/-/pipelines/7",
        "CI_PROJECT_PATH": "example/dbt-deployment",
        "GITLAB_USER_LOGIN": "tester",
    }


def _base_image() -> dict[str, str]:
    file = ROOT / ".cipipe/env"
    lines = file.read_text().splitlines() if file.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line)


def pytest_configure() -> None:
    # Terraform finds provider plugins below the home folder; dockerd's programs may lie outside a user's PATH.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    assert shutil.which("git")
