"""Two environments, and two projects, whose real Terraform gives one bucket, or that have one
state: S3 of moto's, no sandbox.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from support.tools import require

ACCOUNT, REGION = "123456789012", "eu-central-1"  # moto's own account
LEDGER, DAGS = f"cipipe-{ACCOUNT}-{REGION}", "shared-dags"
AUTHOR = ("-c", "user.name=t", "-c", "user.email=t@example.com")
MAIN = f"""terraform {{
  backend "s3" {{}}
}}
resource "terraform_data" "it" {{}}
output "dags_bucket" {{
  value = "{DAGS}"
}}
"""
ENVIRONMENT = f"""
account_id = "{ACCOUNT}"
region = "{REGION}"
role_arn = "arn:aws:iam::{ACCOUNT}:role/deploy"
"""


def configuration(
    name: str, *, key: str = "{project}-{environment}.tfstate", prefix: str = "dags/"
) -> str:
    return f"""
[project]
name = "{name}"
default_environment = "dev"
[environments.dev]
{ENVIRONMENT}
[environments.prod]
{ENVIRONMENT}
protected = true
[stages.iac]
kind = "terraform"
paths = ["infra/**"]
root = "infra"
backend = {{ bucket = "{LEDGER}", key = "{key}" }}
[stages.dags]
kind = "dags"
paths = ["dags/**"]
source = "dags"
prefix = "{prefix}"
bucket = {{ output = "dags_bucket" }}
needs = ["iac"]
"""


class Account:
    """moto's account, `cipipe` in it, and what its bucket holds."""

    def __init__(self, url: str) -> None:
        require("terraform", "a deployment")
        self.s3 = boto3.Session("AKIAEXAMPLE", "example", region_name=REGION).client(
            "s3", endpoint_url=url
        )
        self.env = {
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "example",
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "AWS_ENDPOINT_URL": url,
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "NO_COLOR": "1",
        }
        for name in (LEDGER, DAGS):
            self.s3.create_bucket(
                Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
            )
            self.s3.put_bucket_versioning(
                Bucket=name, VersioningConfiguration={"Status": "Enabled"}
            )

    def start(self, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
        argv = [str(Path(sys.executable).parent / "cipipe"), *arguments, "--format", "json"]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv,
            cwd=folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )

    def ended(self, child: "subprocess.Popen[str]") -> tuple[int, str | None]:
        """The exit status and the error's id."""
        out, err = child.communicate(timeout=180)
        assert "Traceback" not in err
        document: dict[str, Any] = json.loads(out)
        return child.returncode, (document.get("error") or {}).get("id")

    def cipipe(self, folder: Path, *arguments: str) -> tuple[int, str | None]:
        return self.ended(self.start(folder, *arguments))

    def versions(self) -> dict[tuple[str, str], str]:
        """The owner of every version of every object that is not a delete marker."""
        found = self.s3.list_object_versions(Bucket=DAGS).get("Versions", [])
        heads = {
            (one["Key"], one["VersionId"]): self.s3.head_object(
                Bucket=DAGS, Key=one["Key"], VersionId=one["VersionId"]
            )
            for one in found
        }
        return {key: head["Metadata"]["cipipe-owner"] for key, head in heads.items()}

    def owned(self, owner: str) -> set[tuple[str, str]]:
        return {key for key, found in self.versions().items() if found == owner}


@pytest.fixture
def account(endpoint: str) -> Account:
    return Account(endpoint)


def project(folder: Path, text: str, *, dag: str = "a") -> Path:
    files = {
        "cipipe.toml": text,
        "infra/main.tf": MAIN,
        f"dags/{dag}.py": "from airflow import DAG\n",
        ".gitignore": ".terraform*\n",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "Begin"]):
        subprocess.run(["git", *AUTHOR, *arguments], cwd=folder, check=True)
    return folder


def test_one_bucket_of_two_environments(account: Account, tmp_path: Path) -> None:
    folder = project(tmp_path / "shop", configuration("shop"))
    assert account.cipipe(folder, "check") == (0, None), "the file does not tell"
    assert account.cipipe(folder, "run", "--env", "prod", "--yes") == (0, None)
    prods = account.owned("shop/prod/dags")
    assert len(prods) == 1

    assert account.cipipe(folder, "run", "--env", "dev") == (5, "dags-foreign-object")
    assert account.versions() == dict.fromkeys(prods, "shop/prod/dags")
    assert account.cipipe(folder, "destroy", "--env", "dev", "--confirm", "dev") == (0, None)
    assert account.versions() == dict.fromkeys(prods, "shop/prod/dags")
    assert account.cipipe(folder, "run", "--env", "prod", "--yes") == (0, None)


def test_two_first_runs_at_once(account: Account, tmp_path: Path) -> None:
    folder = project(tmp_path / "one", configuration("shop"))
    other = tmp_path / "two"
    subprocess.run(["git", "clone", "-q", str(folder), str(other)], check=True)
    children = [
        account.start(folder, "run", "--env", "dev"),
        account.start(other, "run", "--env", "prod", "--yes"),
    ]
    ended = sorted(account.ended(child) for child in children)
    assert ended == [(0, None), (5, "dags-foreign-object")]
    assert len(set(account.versions().values())) == 1


def test_one_folder_of_two_projects(account: Account, tmp_path: Path) -> None:
    shop = project(tmp_path / "shop", configuration("shop"))
    blog = project(tmp_path / "blog", configuration("blog"), dag="b")
    assert account.cipipe(shop, "run") == (0, None)
    before = account.versions()
    assert account.cipipe(blog, "run") == (5, "dags-foreign-object")
    assert account.cipipe(blog, "destroy", "--env", "dev", "--confirm", "dev") == (0, None)
    assert account.versions() == before
    beside = project(tmp_path / "beside", configuration("beside", prefix="dags/beside/"), dag="b")
    assert account.cipipe(beside, "run") == (0, None), "a folder of its own is fine"
    assert account.cipipe(beside, "destroy", "--env", "dev", "--confirm", "dev") == (0, None)
    assert account.versions() == before


def test_one_state_of_two_projects(account: Account, tmp_path: Path) -> None:
    key = "{environment}/shared.tfstate"
    shop = project(tmp_path / "shop", configuration("shop", key=key))
    blog = project(tmp_path / "blog", configuration("blog", key=key, prefix="blog/"))
    assert account.cipipe(shop, "run") == (0, None)
    state = account.s3.get_object(Bucket=LEDGER, Key="dev/shared.tfstate")["Body"].read()
    assert account.cipipe(blog, "run") == (5, "place-not-ours")
    assert account.cipipe(blog, "destroy", "--env", "dev", "--confirm", "dev") == (0, None), (
        "nothing of it is deployed"
    )
    assert account.s3.get_object(Bucket=LEDGER, Key="dev/shared.tfstate")["Body"].read() == state
    assert account.cipipe(shop, "destroy", "--env", "dev", "--confirm", "dev") == (0, None)
    assert account.cipipe(blog, "run") == (0, None), "what was destroyed is free"
