"""`cipipe` in a clone of this repository, and AWS as an administrator of the sandbox sees it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from cipipe.sandbox import client
from cipipe.sandbox.client import Sandbox
from support.environment import shell_environment
from support.leaks import leaks
from support.tools import ROOT

# The commands whose answer is a token or keys.
_SHOWS_KEYS = {("sandbox", "env"), ("sandbox", "token")}

# The stages of this repository whose results are kept in AWS.
STAGES = ("iac", "image", "dags")


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
        return subprocess.run(
            argv, cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, path: str, text: str) -> str:
        """Append to a file, and commit that."""
        with (self.folder / path).open("a") as file:
            file.write(text)
        self.git("add", "--", path)
        self.git("commit", "--quiet", "-m", f"Change {path}")
        return self.git("rev-parse", "HEAD")

    def sandbox(self) -> Sandbox:
        """The sandbox that is kept for it."""
        found = client.find(self.folder / ".cipipe/sandbox")
        assert found is not None
        return found

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
        return self._scanned(
            Outcome(child.returncode, out, err), env, shows_keys=arguments[:2] in _SHOWS_KEYS
        )

    def run(self, *arguments: str, **env: str) -> Outcome:
        return self.cipipe(
            "run", "--sandbox", "--env", "dev", "--format", "json", *arguments, **env
        )

    def plan(self, *arguments: str, **env: str) -> dict[str, tuple[str, str]]:
        """Each stage's status and reason."""
        done = self.cipipe(
            "plan", "--sandbox", "--env", "dev", "--format", "json", *arguments, **env
        )
        assert done.status == 0, done.text
        return {
            stage["name"]: (stage["status"], stage["reason"]) for stage in done.document["stages"]
        }

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
        return self._scanned(Outcome(child.returncode, out, "".join(seen) + err), {})

    def _scanned(
        self, outcome: Outcome, env: Mapping[str, str], *, shows_keys: bool = False
    ) -> Outcome:
        """The outcome, after a look for secrets in all that was printed."""
        sandbox = client.find(self.folder / ".cipipe/sandbox")
        secrets = [
            value
            for name, value in env.items()
            if name in {"AWS_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"}
        ]
        found = leaks(
            outcome.text, hashes=sandbox.secret_hashes() if sandbox else (), secrets=secrets
        )
        assert shows_keys or found == [], f"a secret was printed: {found}"
        return outcome


def clone_of_this_repository(folder: Path) -> Clone:
    """Its branch is main, and the base image is the one that scripts/setup made."""
    subprocess.run(["git", "clone", "--quiet", "--", str(ROOT), str(folder)], check=True)
    made = Clone(folder, shell_environment() | _base_image())
    made.git("checkout", "--quiet", "-B", "main")
    return made


def _base_image() -> dict[str, str]:
    file = ROOT / ".cipipe/env"
    lines = file.read_text().splitlines() if file.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line)


@dataclass(frozen=True, kw_only=True)
class FirstRun:
    """The run that deployed into an empty account, and what it left there.

    Tests that come later change the account; what is kept here stays as it was.
    """

    outcome: Outcome
    # The commit that was deployed.
    commit: str
    # The ledger's records by stage.
    records: dict[str, dict[str, Any]]
    # The token exchanges that STS saw, as the sandbox logs them.
    exchanges: list[dict[str, Any]]
    # The names of the DAG files in that commit: dags/NAME.py.
    dag_files: set[str]


class Aws:
    """boto3 clients of the sandbox's account, as an administrator."""

    def __init__(self, sandbox: Sandbox) -> None:
        keys = sandbox.admin_of("111111111111")
        self.sandbox = sandbox
        self._session = boto3.Session(
            keys.access_key_id, keys.secret_access_key, region_name="eu-central-1"
        )

    def client(self, service: str) -> Any:
        return self._session.client(service, endpoint_url=self.sandbox.state.aws_url)  # type: ignore[call-overload]

    def get(self, bucket: str, key: str) -> bytes:
        return bytes(self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        pages = (
            self.client("s3")
            .get_paginator("list_objects_v2")
            .paginate(Bucket=bucket, Prefix=prefix)
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def record(self, stage: str) -> dict[str, Any]:
        body = self.get(
            "cipipe-111111111111-eu-central-1", f"ledger/dbt-deployment/dev/{stage}.json"
        )
        return dict(json.loads(body))

    def outputs(self) -> dict[str, Any]:
        body = self.get(
            "cipipe-111111111111-eu-central-1", "ledger/dbt-deployment/dev/iac.outputs.json"
        )
        return {name: output.get("value") for name, output in json.loads(body).items()}
