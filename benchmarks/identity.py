"""What one exchange of a token costs as a whole process, next to the AWS CLI's. See README.md here.

Both use the same endpoint, the sandbox's, which verifies the token and evaluates the role's trust
policy as AWS does. Every command runs once per round, in turn. The table shows medians.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cipipe.sandbox import Sandbox, SandboxOptions, attached
from cipipe.tools.aws.clients import Aws

ACCOUNT, REGION = "111111111111", "eu-central-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/deploy"
CONFIG = f"""\
[project]
name = "benchmark"
default_environment = "dev"
[environments.dev]
account_id = "{ACCOUNT}"
region = "{REGION}"
role_arn = "{ROLE}"
deploy_from = {{ branches = ["main"] }}
[stages.only]
kind = "command"
paths = ["*"]
run = [["true"]]
"""
FOREIGN = ("GIT_", "AWS_", "CI", "GITLAB_", "GITHUB_", "ACTIONS_")
GOAL = 0.5


class Command(NamedTuple):
    argv: Sequence[str]
    env: Mapping[str, str]
    # What it must print; otherwise something else was measured.
    expected: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cipipe",
        default=str(Path(sys.executable).with_name("cipipe")),
        help="a path or command line",
    )
    parser.add_argument(
        "--aws", help="the AWS CLI; without it, version 1 is installed from PyPI, for this run"
    )
    parser.add_argument("--runs", type=int, default=20)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="cipipe-benchmark-") as scratch,
        served(Path(scratch)) as sandbox,
    ):
        aws = shlex.split(given.aws) if given.aws else [str(installed(Path(scratch) / "aws"))]
        repository = made(Path(scratch) / "repository")
        commands = {
            "python -c pass": Command([sys.executable, "-c", "pass"], environment(sandbox)),
            "cipipe --version": Command(
                [*shlex.split(given.cipipe), "--version"], environment(sandbox)
            ),
            "cipipe oidc credential-process": Command(
                [*shlex.split(given.cipipe), "oidc", "credential-process"],
                job(sandbox),
                "SecretAccessKey",
            ),
            "aws --version": Command([*aws, "--version"], environment(sandbox)),
            "aws sts assume-role-with-web-identity": Command(
                [*aws, *exchange(sandbox)], environment(sandbox), "SecretAccessKey"
            ),
        }
        versions = [version(command) for name, command in commands.items() if "--v" in name]
        print(", ".join([f"Python {platform.python_version()}", *versions]))
        print(f"medians of {given.runs} runs, least and most beside them\n")
        found = measured(commands, repository, given.runs)
    for name, times in found.items():
        print(f"{name:<40}{statistics.median(times):8.0f} ms {min(times):6.0f} {max(times):6.0f}")
    ours, theirs = (statistics.median(found[name]) for name in list(commands)[2::2])
    verdict = "met   " if ours <= GOAL * theirs else "missed"
    print(f"\n{verdict} credential-process ÷ aws: {ours / theirs:.2f}, at most {GOAL:.2f}")


@contextmanager
def served(scratch: Path) -> Iterator[Sandbox]:
    """A sandbox with one role that trusts one project at GitLab."""
    options = SandboxOptions(directory=scratch / "sandbox", account_id=ACCOUNT, docker=False)
    with attached(options, env=dict(os.environ), say=lambda _: None) as sandbox:
        admin = Aws(sandbox.endpoint(REGION), sandbox.admin)
        url = {
            "Url": "https://gitlab.com",
            "ClientIDList": ["https://gitlab.com"],
            "ThumbprintList": [],
        }
        admin.call("iam", "create_open_id_connect_provider", **url)
        statement = {
            "Effect": "Allow",
            "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/gitlab.com"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringLike": {"gitlab.com:sub": "project_path:group/project:*"}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        admin.call("iam", "create_role", RoleName="deploy", AssumeRolePolicyDocument=policy)
        yield sandbox


def installed(folder: Path) -> Path:
    """The AWS CLI, version 1, in a virtual environment of its own."""
    venv.create(folder, with_pip=True)
    subprocess.run(
        [folder / "bin/python", "-m", "pip", "install", "--quiet", "awscli<2"], check=True
    )
    return folder / "bin/aws"


def made(folder: Path) -> Path:
    folder.mkdir()
    (folder / "cipipe.toml").write_text(CONFIG)
    identity = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org"]
    for arguments in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        [*identity, "commit", "-q", "-m", "one"],
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


def environment(sandbox: Sandbox) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    return {
        **kept,
        "AWS_ENDPOINT_URL": sandbox.state.aws_url,
        "AWS_DEFAULT_REGION": REGION,
        "PYTHONDONTWRITEBYTECODE": "",
    }


def token(sandbox: Sandbox) -> str:
    return sandbox.mint(
        project="group/project", ref="main", ref_type="branch", audience="https://gitlab.com"
    )


def job(sandbox: Sandbox) -> dict[str, str]:
    own = {"GITLAB_CI": "true", "CI_PIPELINE_SOURCE": "push", "CI_COMMIT_REF_NAME": "main"}
    return {**environment(sandbox), **own, "AWS_ID_TOKEN": token(sandbox)}


def exchange(sandbox: Sandbox) -> list[str]:
    options = {
        "--role-arn": ROLE,
        "--role-session-name": "benchmark",
        "--web-identity-token": token(sandbox),
        "--duration-seconds": "3600",
        "--output": "json",
    }
    command = ["sts", "assume-role-with-web-identity"]
    return command + [word for option in options.items() for word in option]


def version(command: Command) -> str:
    done = subprocess.run(command.argv, env=command.env, capture_output=True, text=True, check=True)
    return done.stdout.partition(" Python")[0].strip()


def measured(commands: Mapping[str, Command], folder: Path, runs: int) -> dict[str, list[float]]:
    """Milliseconds of each run. The first round fills caches, and does not count."""
    found: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            done = subprocess.run(
                command.argv,
                env=command.env,
                cwd=folder,
                capture_output=True,
                text=True,
                check=True,
            )
            elapsed = (time.perf_counter() - start) * 1000
            assert command.expected in done.stdout, f"{name} did something else"
            if number > 0:
                found[name].append(elapsed)
    return found


if __name__ == "__main__":
    main()
