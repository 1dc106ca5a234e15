"""A project of one Terraform stage, whose resources need no provider, for applies that something
disturbs.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any, Self

from cipipe.sandbox.client import Sandbox
from support.clone import Aws, Clone, Outcome
from support.environment import shell_environment

BUCKET = "cipipe-111111111111-eu-central-1"
STATE = "applies/dev.tfstate"
LOCK = f"{STATE}.tflock"
RECORD = "ledger/applies/dev/iac.json"
RECOVERY = "cipipe-recovery/ledger/applies/dev/iac/"

CONFIG = """
[project]
name = "applies"
default_environment = "dev"

[oidc.gitlab]
audience = "https://gitlab.com"
token_variable = "AWS_ID_TOKEN"
project = "group/applies"

[environments.dev]
account_id = "111111111111"
region = "eu-central-1"
role_arn = "arn:aws:iam::111111111111:role/applies-deploy"
deploy_from = { branches = ["main"] }

[stages.iac]
kind = "terraform"
paths = ["infra/**"]
root = "infra"
backend = { bucket = "cipipe-{account_id}-{region}", key = "applies/{environment}.tfstate" }
lock_timeout = "6s"
"""

BACKEND = 'terraform {\n  backend "s3" {}\n}\n'


class ApplyProject(Clone):
    """The project; each job of it is a later pipeline."""

    pipelines = 0

    @classmethod
    def made(cls, folder: Path, config: str = CONFIG) -> Self:
        """The project in a new folder, without resources."""
        (folder / "infra").mkdir(parents=True)
        (folder / "cipipe.toml").write_text(config)
        (folder / ".gitignore").write_text(".cipipe/\n*.tfstate\n")
        (folder / "infra/backend.tf").write_text(BACKEND)
        project = cls(folder, shell_environment() | {"CIPIPE_SANDBOX_DOCKER": "off"})
        project.git("init", "--quiet", "--initial-branch=main")
        project.change("")
        return project

    def change(self, text: str) -> None:
        """Commit other resources."""
        (self.folder / "infra/main.tf").write_text(f"# {self.pipelines}\n{text}")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", "Change the resources")

    def job(self, sandbox: Sandbox, url: str | None = None) -> dict[str, str]:
        """The variables of a push to main in GitLab, to an AWS at `url`."""
        self.pipelines += 1
        token = sandbox.mint(
            project="group/applies", ref="main", ref_type="branch", audience="https://gitlab.com"
        )
        return {
            "CI": "true",
            "GITLAB_CI": "true",
            "CI_PIPELINE_SOURCE": "push",
            "CI_COMMIT_REF_NAME": "main",
            "CI_COMMIT_BRANCH": "main",
            "CI_COMMIT_REF_PROTECTED": "true",
            "CI_DEFAULT_BRANCH": "main",
            "CI_PIPELINE_IID": str(self.pipelines),
            "CI_PROJECT_PATH": "group/applies",
            "AWS_ID_TOKEN": token,
            "AWS_ENDPOINT_URL": url or sandbox.state.aws_url,
            "AWS_ENDPOINT_URL_STS": url or sandbox.state.aws_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "TF_VAR_sandbox": "true",
        }

    def deploy(self, sandbox: Sandbox, url: str | None = None, *arguments: str) -> Outcome:
        """`cipipe run` in such a job."""
        return self.cipipe("run", "--format", "json", *arguments, **self.job(sandbox, url))


def error(outcome: Outcome) -> dict[str, Any]:
    """The error that a command's document reports."""
    found: dict[str, Any] = outcome.document["error"]
    return found


def command_in(text: str) -> list[str]:
    """The arguments of the command of cipipe that a hint ends with."""
    found = re.search(r"cipipe (iac [^\n]+)$", text)
    assert found, text
    return shlex.split(found[1])


def state(aws: Aws) -> dict[str, Any]:
    return dict(json.loads(aws.get(BUCKET, STATE)))


def addresses(aws: Aws) -> set[str]:
    """The names of the resources in the state."""
    return {entry["name"] for entry in state(aws)["resources"]}
