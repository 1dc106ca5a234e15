"""The repository's Terraform root, applied by real Terraform on moto, with its state in a file."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from support.tools import ROOT, require

REGION, ACCOUNT = "eu-central-1", "123456789012"
BACKEND = 'terraform {\n  backend "local" {}\n}\n'


@dataclass(frozen=True)
class StackRoot:
    """A copy of the root, and where its AWS is."""

    folder: Path
    url: str
    # Its values without TF_VAR_; a call may change them.
    variables: dict[str, str]
    env: dict[str, str] = field(default_factory=dict)

    def terraform(self, *arguments: str, **variables: str) -> str:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "TF_VAR_"))
        }
        values = {
            "region": REGION,
            "account_id": ACCOUNT,
            "image_tag": "0" * 20,
            "sandbox": "true",
            **self.variables,
            **variables,
        }
        env = {
            **kept,
            **{f"TF_VAR_{name}": value for name, value in values.items()},
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "example",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_STS": self.url,
            **self.env,
        }
        argv = [str(require("terraform", "the stack")), *arguments]
        done = subprocess.run(
            argv, cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        return done.stdout

    def create(self) -> None:
        self.terraform("init", "-input=false")
        self.terraform("apply", "-auto-approve", "-input=false")

    def outputs(self) -> dict[str, Any]:
        found = json.loads(self.terraform("output", "-json"))
        return {name: output["value"] for name, output in found.items()}

    def planned(self) -> dict[str, set[str]]:
        """The attributes that another apply would change, by the type of resource."""
        self.terraform("plan", "-input=false", "-out=again")
        changes = json.loads(self.terraform("show", "-json", "again"))["resource_changes"]
        found: dict[str, set[str]] = {}
        for change in changes:
            if change["change"]["actions"] == ["no-op"]:
                continue
            assert change["change"]["actions"] == ["update"], change["address"]
            before, after = change["change"]["before"], change["change"]["after"]
            different = {name for name in before if before[name] != after.get(name)}
            found[change["type"]] = found.get(change["type"], set()) | different
        return found

    def client(self, service: str) -> Any:
        session: Any = boto3.Session("AKIAEXAMPLE", "example", region_name=REGION)
        return session.client(service, endpoint_url=self.url)


def copied(folder: Path, override: str = BACKEND) -> Path:
    """A copy of the root, without its tests, and with a file that overrides parts of it."""
    ignored = shutil.ignore_patterns(".terraform", "tests")
    shutil.copytree(ROOT / "terraform", folder, ignore=ignored)
    (folder / "test_override.tf").write_text(override)
    return folder
