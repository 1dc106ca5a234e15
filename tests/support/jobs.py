"""Jobs of a provider in a sandbox: a small project, roles that trust it in two accounts, and
`cipipe` as its job runs it.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cipipe.sandbox import Sandbox, SandboxOptions, attached
from cipipe.tools import process
from cipipe.tools.aws.clients import Aws
from support.configurations import environment, head
from support.environment import shell_environment
from support.git import ENV, Repo

ACCOUNT, OTHER = "111111111111", "222222222222"
REGION = "eu-central-1"
ISSUERS = {"gitlab": "https://gitlab.com", "github": "https://token.actions.githubusercontent.com"}
AUDIENCES = {"gitlab": "https://gitlab.com", "github": "sts.amazonaws.com"}
ROLE = f"arn:aws:iam::{ACCOUNT}:role/deploy"

CONFIG = f"""
{head(ACCOUNT)}verify_role_arn = "arn:aws:iam::{ACCOUNT}:role/verify"
deploy_from = {{ branches = ["main"] }}
{environment("live", account=OTHER)}via_role_arn = "{ROLE}"

[stages.iac]
kind = "command"
paths = ["*.tf"]
run = [["true"]]
"""


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def id(self) -> str:
        """The id of the error on standard error."""
        return self.err.rpartition("docs/errors.md#")[2].partition(",")[0]


@dataclass(frozen=True)
class Job:
    """A checkout, and the environment that a provider gives a job in it."""

    root: Path
    env: Mapping[str, str]

    def cipipe(self, *arguments: str, **env: str) -> Done:
        argv = [sys.executable, "-m", "cipipe", *arguments]
        done = process.run(argv, env={**self.env, **env}, cwd=self.root, check=False)
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def python(self, code: str, env: Mapping[str, str]) -> Done:
        """A program with this environment and no other."""
        done = process.run([sys.executable, "-c", code], env=env, cwd=self.root, check=False)
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextlib.contextmanager
def sandbox_with_roles(folder: Path, *, enforce_iam: bool = False) -> Iterator[Sandbox]:
    """A sandbox without Docker: `deploy` trusts group/shop's main branch while it is protected,
    `verify` every branch, in one account; `deploy` in the other account trusts the first one's
    `deploy`.
    """
    with attached(
        SandboxOptions(directory=folder, account_id=ACCOUNT, docker=False, enforce_iam=enforce_iam),
        env=dict(os.environ),
        say=lambda _: None,
    ) as sandbox:
        admin = Aws(sandbox.endpoint(REGION), sandbox.admin)
        for flavour, url in ISSUERS.items():
            admin.call(
                "iam",
                "create_open_id_connect_provider",
                Url=url,
                ClientIDList=[AUDIENCES[flavour]],
                ThumbprintList=[],
            )
        for name, branch in {"deploy": "main", "verify": "*"}.items():
            role(
                admin,
                name,
                [_web_identity(flavour, branch) for flavour in ISSUERS],
                MaxSessionDuration=7200,
            )
        other = Aws(sandbox.endpoint(REGION), sandbox.admin_of(OTHER))
        role(
            other,
            "deploy",
            [{"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "sts:AssumeRole"}],
        )
        yield sandbox


def role(admin: Aws, name: str, statements: list[dict[str, Any]], **more: Any) -> None:
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    admin.call("iam", "create_role", RoleName=name, AssumeRolePolicyDocument=policy, **more)


def _web_identity(flavour: str, branch: str) -> dict[str, Any]:
    host = ISSUERS[flavour].removeprefix("https://")
    subjects = {
        "gitlab": f"project_path:group/shop:ref_type:branch:ref:{branch}",
        "github": "repo:group/shop:*",
    }
    protected = (
        {f"{host}:ref_protected": "true"} if flavour == "gitlab" and branch == "main" else {}
    )
    return {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {f"{host}:aud": AUDIENCES[flavour], **protected},
            "StringLike": {f"{host}:sub": subjects[flavour]},
        },
    }


def shell(root: Path, sandbox: Sandbox, config: str = CONFIG) -> Job:
    """A checkout of the project, as a person at a shell has it, without AWS credentials."""
    repo = Repo(root)
    repo.write({"cipipe.toml": config, "main.tf": ""})
    repo.git("add", "--all")
    repo.git("commit", "--quiet", "-m", "one")
    clean = shell_environment(ENV)
    clean |= {
        "HOME": str(root.parent),
        "AWS_ENDPOINT_URL": sandbox.state.aws_url,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return Job(root, clean)


def gitlab(root: Path, sandbox: Sandbox, config: str = CONFIG, **claims: Any) -> Job:
    """A push to main at GitLab."""
    asked = {
        "project": "group/shop",
        "ref": "main",
        "ref_type": "branch",
        "audience": AUDIENCES["gitlab"],
        **claims,
    }
    job = shell(root, sandbox, config)
    own = {
        "CI": "true",
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "push",
        "CI_COMMIT_REF_NAME": "main",
    }
    own |= {"CI_PIPELINE_IID": "7", "AWS_ID_TOKEN": sandbox.mint(**asked)}
    return Job(root, {**job.env, **own})


def github(root: Path, sandbox: Sandbox, config: str = CONFIG, **claims: Any) -> Job:
    """A push to main at GitHub."""
    job = shell(root, sandbox, config)
    return Job(root, {**job.env, **github_variables(sandbox, "group/shop", **claims)})


def github_variables(sandbox: Sandbox, project: str, **claims: Any) -> dict[str, str]:
    """What GitHub gives to a job of a push to main that may have an ID token."""
    url, bearer = sandbox.github_job(project=project, ref="main", ref_type="branch", **claims)
    return {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_REF_NAME": "main",
        "GITHUB_REF_TYPE": "branch",
        "GITHUB_REPOSITORY": project,
        "GITHUB_RUN_ID": "12345",
        "ACTIONS_ID_TOKEN_REQUEST_URL": url,
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": bearer,
    }


def merge_request_job(sandbox: Sandbox, project: str) -> dict[str, str]:
    """The variables of a GitLab job for a merge request to main, with its token."""
    token = sandbox.mint(
        project=project,
        ref="feature",
        ref_type="branch",
        audience=AUDIENCES["gitlab"],
        event="merge-request",
    )
    return {
        "CI": "true",
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "merge_request_event",
        "CI_PIPELINE_IID": "9",
        "CI_COMMIT_REF_NAME": "feature",
        "CI_DEFAULT_BRANCH": "main",
        "CI_MERGE_REQUEST_IID": "1",
        "CI_MERGE_REQUEST_PROJECT_PATH": project,
        "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": project,
        "CI_PROJECT_PATH": project,
        "AWS_ID_TOKEN": token,
    }
