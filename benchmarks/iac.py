"""What cipipe adds to Terraform: a first apply, one with nothing to do, and destroying it again.

Every start of Terraform is timed by a program of that name before it in PATH. What is left of the
command's time is cipipe's own: starting, identity, requests, records, reading plans. See README.md
here.
"""

import argparse
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

CONFIG = """\
[project]
name = "benchmark"
default_environment = "dev"
[oidc.gitlab]
audience = "https://gitlab.com"
token_variable = "AWS_ID_TOKEN"
project = "group/benchmark"
[environments.dev]
account_id = "111111111111"
region = "eu-central-1"
role_arn = "arn:aws:iam::111111111111:role/benchmark-deploy"
deploy_from = { branches = ["main"] }
[stages.iac]
kind = "terraform"
paths = ["infra/**"]
root = "infra"
backend = { bucket = "cipipe-{account_id}-{region}", key = "benchmark/{environment}.tfstate" }
"""
ROOT = """\
terraform {{
  required_providers {{
    aws = {{ source = "hashicorp/aws", version = "~> 5.100" }}
  }}
  backend "s3" {{}}
}}

provider "aws" {{
  max_retries = 2
}}

resource "aws_ssm_parameter" "it" {{
  count = {resources}
  name  = "/benchmark/${{count.index}}"
  type  = "String"
  value = "x"
}}

output "names" {{
  value = aws_ssm_parameter.it[*].name
}}
"""
# Start and end of each Terraform, in seconds since the epoch.
TIMED = """\
#!{python} -IS
import subprocess, sys, time
started = time.time()
status = subprocess.run([{terraform!r}, *sys.argv[1:]]).returncode
with open({log!r}, "a") as log:
    print(sys.argv[1], started, time.time(), file=log)
sys.exit(status)
"""
GOAL = 10.0


class Run(NamedTuple):
    """One run of cipipe, in seconds."""

    # The whole command, and Terraform in it.
    total: float
    terraform: float
    # The verbs that Terraform was started with.
    verbs: tuple[str, ...]

    @property
    def own(self) -> float:
        """cipipe's own time, in percent of Terraform's."""
        return 100 * (self.total - self.terraform) / self.terraform


class Bench:
    """A repository with a Terraform stage, and a sandbox to deploy it to."""

    def __init__(self, folder: Path, cipipe: list[str], resources: int) -> None:
        self.folder = folder / "repository"
        self._cipipe = cipipe
        self._log = folder / "terraform.log"
        terraform = shutil.which("terraform")
        if terraform is None:
            sys.exit("terraform is not installed")
        (self.folder / "infra").mkdir(parents=True)
        (self.folder / "cipipe.toml").write_text(CONFIG)
        (self.folder / ".gitignore").write_text(".cipipe/\n")
        (self.folder / "infra/main.tf").write_text(ROOT.format(resources=resources))
        wrapper = folder / "bin/terraform"
        wrapper.parent.mkdir()
        text = TIMED.format(python=sys.executable, terraform=terraform, log=str(self._log))
        wrapper.write_text(text)
        wrapper.chmod(0o755)
        names = ("GIT_", "AWS_", "CI_", "GITHUB_", "TF_VAR_")
        self._env = {k: v for k, v in os.environ.items() if not k.startswith(names)} | {
            "PATH": f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}",
            "CIPIPE_SANDBOX_DOCKER": "off",
        }
        for arguments in (["init", "--quiet", "--initial-branch=main"], ["add", "--all"]):
            self.run(["git", *arguments])
        person = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        self.run(["git", *person, "commit", "--quiet", "--message", "x"])

    def run(self, argv: list[str]) -> str:
        done = subprocess.run(
            argv, cwd=self.folder, env=self._env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{shlex.join(argv)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def cipipe(self, *arguments: str) -> str:
        return self.run([*self._cipipe, *arguments])

    def timed(self, *arguments: str) -> Run:
        """Run cipipe."""
        self._log.unlink(missing_ok=True)
        started = time.perf_counter()
        self.cipipe(*arguments, "--sandbox", "--env", "dev")
        total = time.perf_counter() - started
        calls = [line.split() for line in self._log.read_text().splitlines()]
        return Run(
            total=total,
            terraform=sum(float(end) - float(start) for _, start, end in calls),
            verbs=tuple(verb for verb, _, _ in calls),
        )


def measured(bench: Bench, runs: int) -> dict[str, list[Run]]:
    """Each operation, in turn."""
    found: dict[str, list[Run]] = {"first apply": [], "nothing to do": [], "destroy": []}
    for _ in range(runs):
        found["first apply"].append(bench.timed("run", "--force", "iac", "iac"))
        found["nothing to do"].append(bench.timed("run", "--force", "iac", "iac"))
        found["destroy"].append(bench.timed("destroy", "--confirm", "dev"))
    return found


def show(found: dict[str, list[Run]]) -> None:
    print(f"{'':16}{'cipipe':>8}{'terraform':>11}{'own ÷ terraform':>17}   terraform's verbs")
    for name, runs in found.items():
        total = statistics.median(run.total for run in runs)
        terraform = statistics.median(run.terraform for run in runs)
        own = statistics.median(run.own for run in runs)
        print(f"{name:16}{total:8.2f}{terraform:11.2f}{own:15.1f} %   {' '.join(runs[-1].verbs)}")


def goals(found: dict[str, list[Run]]) -> bool:
    """Print which goals are met; whether all of them are."""
    met = True
    for name, runs in found.items():
        own = statistics.median(run.own for run in runs)
        met = met and own <= GOAL
        sign = "✓" if own <= GOAL else "✗"
        print(f"{sign} {name}: {own:.1f} % of Terraform's time, at most {GOAL:g} %")
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    beside = Path(sys.executable).with_name("cipipe")
    parser.add_argument("--cipipe", default=str(beside), help="a path or command line")
    parser.add_argument("--resources", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cipipe-benchmark-") as folder:
        bench = Bench(Path(folder), shlex.split(given.cipipe), given.resources)
        bench.cipipe("sandbox", "up")
        try:
            # Bootstraps the account, and initialises the root.
            bench.timed("run", "iac")
            bench.timed("destroy", "--confirm", "dev")
            found = measured(bench, given.runs)
        finally:
            bench.cipipe("sandbox", "down")
    print(f"{given.resources} resources, medians of {given.runs} runs, seconds")
    show(found)
    if not goals(found):
        sys.exit(1)


if __name__ == "__main__":
    main()
