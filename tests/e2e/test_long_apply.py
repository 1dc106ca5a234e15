"""An apply that takes longer than its credentials last: real Terraform, in a job of GitHub's,
against an STS that gives sessions of seconds and a front that refuses them when they have expired.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from cipipe.sandbox import SandboxOptions, attached
from cipipe.sandbox.client import Sandbox
from cipipe.tools.aws.sts import RoleSession, assume_role_with_web_identity
from support.clone import Clone, Outcome
from support.environment import shell_environment
from support.jobs import github_variables
from support.tools import require

ACCOUNT, REGION = "111111111111", "eu-central-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/deploy"
ISSUER = "token.actions.githubusercontent.com"
SESSION, WAIT = 20, 45
"""Seconds that a session lasts, and that the apply waits between its two resources."""

CONFIG = f"""
[project]
name = "long"
default_environment = "dev"

[environments.dev]
account_id = "{ACCOUNT}"
region = "{REGION}"
role_arn = "{ROLE}"
deploy_from = {{ branches = ["main"] }}

[stages.iac]
kind = "terraform"
paths = ["terraform/**"]
root = "terraform"

[stages.iac.backend]
bucket = "cipipe-{{account_id}}-{{region}}"
key = "long.tfstate"
use_path_style = "true"

[stages.after]
kind = "command"
when = "always"
needs = ["iac"]
run = [["cipipe", "status"], ["sh", "-c", "env > command.env"]]
"""

TERRAFORM = f"""
terraform {{
  required_providers {{
    aws = {{ source = "hashicorp/aws", version = "~> 5.100" }}
  }}
  backend "s3" {{
    use_lockfile = true
  }}
}}

provider "aws" {{
  max_retries = 2
}}

resource "aws_ssm_parameter" "before" {{
  name  = "/long/before"
  type  = "String"
  value = "before"
}}

resource "terraform_data" "wait" {{
  depends_on = [aws_ssm_parameter.before]
  provisioner "local-exec" {{
    command = "env > $WITNESS && sleep {WAIT}"
  }}
}}

resource "aws_ssm_parameter" "after" {{
  depends_on = [terraform_data.wait]
  name       = "/long/after"
  type       = "String"
  value      = "after"
}}
"""


@dataclass(frozen=True)
class Applied:
    """What is left of the run."""

    outcome: Outcome
    clone: Clone
    # The environments of Terraform's provisioner and of the command stage.
    witness: dict[str, str]
    command: dict[str, str]
    # The token exchanges that it made.
    exchanges: list[dict[str, Any]]
    # What GitHub gives out ID tokens for.
    bearer: str
    # The temporary folders that it left: there should be none of cipipe's.
    folders: set[str]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    require("terraform", "the apply")
    folder = tmp_path_factory.mktemp("sandbox")
    options = SandboxOptions(directory=folder, account_id=ACCOUNT, docker=False)
    with attached(options, env=dict(os.environ), say=print) as running:
        admin = session(running)
        admin("iam").create_open_id_connect_provider(
            Url=f"https://{ISSUER}", ClientIDList=["sts.amazonaws.com"], ThumbprintList=[]
        )
        statement = {
            "Effect": "Allow",
            "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": {f"{ISSUER}:sub": "repo:group/long:ref:refs/heads/main"}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        admin("iam").create_role(RoleName="deploy", AssumeRolePolicyDocument=policy)
        place = {"LocationConstraint": REGION}
        admin("s3").create_bucket(
            Bucket=f"cipipe-{ACCOUNT}-{REGION}", CreateBucketConfiguration=place
        )
        yield running


def session(sandbox: Sandbox) -> Any:
    keys = sandbox.admin
    made = boto3.Session(keys.access_key_id, keys.secret_access_key, region_name=REGION)
    return lambda service: made.client(service, endpoint_url=sandbox.state.aws_url)


@pytest.fixture(scope="module")
def applied(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Applied:
    # A folder that any of AWS's tools would trip over, were it in a line of theirs.
    folder = tmp_path_factory.mktemp("clone") / 'it\'s a "repository" $(exit 1) #1'
    (folder / "terraform").mkdir(parents=True)
    (folder / "cipipe.toml").write_text(CONFIG)
    (folder / "terraform/main.tf").write_text(TERRAFORM)
    temporary = tmp_path_factory.mktemp("t")
    env = shell_environment()
    clone = Clone(
        folder, env | {"TMPDIR": str(temporary), "WITNESS": str(folder / "terraform.env")}
    )
    clone.git("init", "--quiet", "--initial-branch=main")
    (folder / ".gitignore").write_text(".cipipe/\n*.env\n.terraform*\n")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "-m", "one")
    job = {
        **github_variables(sandbox, "group/long"),
        "AWS_ENDPOINT_URL": sandbox.state.aws_url,
        "AWS_ACCESS_KEY_ID": "AKIASOMEBODYELSES",
        "AWS_SECRET_ACCESS_KEY": "somebody-elses-secret",
    }
    bearer = job["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
    before = len(sandbox.exchanges())
    sandbox.limit_sessions(SESSION)
    try:
        outcome = clone.cipipe("run", "--format", "json", **job)
    finally:
        sandbox.limit_sessions(None)
    assert outcome.status == 0, outcome.text
    return Applied(
        outcome,
        clone,
        seen(folder / "terraform.env"),
        seen(folder / "command.env"),
        sandbox.exchanges()[before:],
        bearer,
        {path.name for path in temporary.iterdir()},
    )


def seen(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


def test_the_apply_outlives_its_first_credentials(applied: Applied, sandbox: Sandbox) -> None:
    assert applied.outcome.results() == {"iac": "done", "after": "done"}
    (iac,) = (stage for stage in applied.outcome.document["stages"] if stage["name"] == "iac")
    assert iac["seconds"] > WAIT > 2 * SESSION
    found = session(sandbox)("ssm").get_parameters(Names=["/long/before", "/long/after"])[
        "Parameters"
    ]
    assert {parameter["Value"] for parameter in found} == {"before", "after"}
    state = json.loads(
        session(sandbox)("s3")
        .get_object(Bucket=f"cipipe-{ACCOUNT}-{REGION}", Key="long.tfstate")["Body"]
        .read()
    )
    assert len(state["resources"]) == 3, (
        "the state was written with credentials that the apply did not start with"
    )
    listed = session(sandbox)("s3").list_objects_v2(Bucket=f"cipipe-{ACCOUNT}-{REGION}")
    keys = [entry["Key"] for entry in listed["Contents"]]
    assert "long.tfstate" in keys
    assert "long.tfstate.tflock" not in keys, "and so was the lock released"


def test_each_session_had_a_token_of_its_own(applied: Applied) -> None:
    assert len(applied.exchanges) >= 2
    assert len({entry["jti"] for entry in applied.exchanges}) == len(applied.exchanges)


@pytest.mark.parametrize("which", ["witness", "command"])
def test_children_hold_neither_token_nor_keys(applied: Applied, which: str) -> None:
    env: dict[str, str] = getattr(applied, which)
    assert env["AWS_PROFILE"] == "cipipe"
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} & env.keys()
    assert applied.bearer not in "".join(env.values())
    assert not any(value.startswith("eyJ") for value in env.values())


def test_nothing_is_left_on_disk(applied: Applied) -> None:
    assert not Path(applied.witness["AWS_CONFIG_FILE"]).parent.exists()
    assert not any(name.startswith("cipipe-") for name in applied.folders)


def test_without_renewal_the_same_apply_fails(applied: Applied, sandbox: Sandbox) -> None:
    """The control: keys of such a session, in Terraform's environment, once it is over."""
    token = sandbox.mint(
        project="group/long",
        ref="main",
        ref_type="branch",
        audience="sts.amazonaws.com",
        flavour="github",
    )
    sandbox.limit_sessions(1)
    try:
        given = assume_role_with_web_identity(
            sandbox.endpoint(REGION),
            RoleSession(role_arn=ROLE, session_name="static", duration=900),
            token=token,
        )
    finally:
        sandbox.limit_sessions(None)
    env = {**applied.clone.env, **given.credentials.environment(), "AWS_REGION": REGION}
    env |= {
        "AWS_ENDPOINT_URL": sandbox.state.aws_url,
        "TF_DATA_DIR": str(applied.clone.folder / ".cipipe/terraform/dev/iac"),
    }
    subprocess.run(["sleep", "1.5"], check=True)
    done = subprocess.run(
        ["terraform", "plan", "-input=false", "-no-color"],
        cwd=applied.clone.folder / "terraform",
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "ExpiredToken" in done.stderr
