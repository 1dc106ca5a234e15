"""Pipelines of GitLab and GitHub, run here from this repository's own pipeline files."""

import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from cipipe.sandbox import Sandbox
from cipipe.tools.aws.clients import Aws
from support import github_runner, jobs
from support.component import component
from support.environment import shell_environment
from support.git import Repo

LEDGER = f"cipipe-{jobs.ACCOUNT}-{jobs.REGION}"
KEY = "dags/orders.py"
BEFORE = "from airflow import DAG\n\nwith DAG('orders', schedule='@daily'):\n    pass\n"
AFTER = BEFORE.replace("@daily", "@hourly")
DEFAULT = "nothing was due here"
DEFAULT_RAN = f"default │   {DEFAULT}"

_CALLER = """
on: {push: {branches: [main]}}
jobs:
  cipipe:
    uses: OWNER/cipipe/.github/workflows/cipipe.yml@VERSION
    permissions: {contents: read, id-token: write}
"""

CONFIG = f"""
[project]
name = "shop"
default_environment = "dev"

[oidc]
gitlab = {{ audience = "https://gitlab.com", project = "group/shop" }}
github = {{ audience = "sts.amazonaws.com", project = "group/shop" }}

[environments.dev]
account_id = "{jobs.ACCOUNT}"
region = "{jobs.REGION}"
role_arn = "{jobs.ROLE}"
deploy_from = {{ branches = ["main"] }}

[ledger]
prefix = "ledger/BUCKET/"

[stages.image]
kind = "command"
paths = ["image/**"]
run = [["true"]]

[stages.dags]
kind = "dags"
paths = ["dags/**"]
source = "dags"
bucket = "BUCKET"
needs = ["image"]

[stages.default]
kind = "command"
when = "nothing-due"
run = [["echo", "{DEFAULT}"]]
"""


@dataclass
class Ran:
    """One job that has ended."""

    name: str
    status: int
    log: str


@dataclass
class SharedProject:
    """A project whose first commit is deployed, and what its pipelines share."""

    folder: Path
    sandbox: Sandbox
    bucket: str
    origin: Repo
    groups: dict[str, threading.Lock] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(10))

    @property
    def deployed(self) -> str:
        admin = Aws(self.sandbox.endpoint(jobs.REGION), self.sandbox.admin)
        return str(
            admin.call("s3", "get_object", Bucket=self.bucket, Key=KEY)["Body"].read().decode()
        )

    def gitlab(self, dag: str, model: str = "select 1") -> "GitLab":
        return GitLab(self, next(self.numbers), self._push(dag, model))

    def github(self, dag: str) -> "GitHub":
        return GitHub(self, next(self.numbers), self._push(dag))

    def _push(self, dag: str, model: str = "select 1") -> str:
        return self.origin.commit({KEY: dag, "image/model.sql": model})

    def clone(self, commit: str) -> Path:
        """What a runner checks out: one commit."""
        folder = self.folder / f"build-{len(list(self.folder.iterdir()))}"
        clone = Repo(folder)
        clone.git("fetch", "--quiet", "--depth=1", self.origin.root.as_uri(), commit)
        clone.git("checkout", "--quiet", "--detach", "FETCH_HEAD")
        return folder

    def script(self, name: str, lines: list[str], folder: Path, env: Mapping[str, str]) -> Ran:
        """Run a job's lines as a runner's shell does."""
        clean = shell_environment()
        clean |= {
            "HOME": str(self.folder),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "AWS_ENDPOINT_URL": self.sandbox.state.aws_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "CI": "true",
            "NO_COLOR": "1",
        }
        done = subprocess.run(
            ["bash", "-eo", "pipefail"],
            input="\n".join(lines),
            cwd=folder,
            env={**clean, **env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Ran(name, done.returncode, done.stdout + done.stderr)


@dataclass
class GitLab:
    """A pipeline for a push to main, by the component with `pipeline: child`."""

    project: SharedProject
    number: int
    commit: str
    ran: list[Ran] = field(default_factory=list)
    child: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file = component({"image": "python", "install": [], "pipeline": "child"})

    def plan(self) -> None:
        """The job that plans, and the child pipeline that is its artifact."""
        folder = self.project.clone(self.commit)
        plan = self.file["plan-child:dev"]
        token = {"AWS_ID_TOKEN": self._token("https://gitlab.com")}
        self._run("plan", plan["script"], folder, token, source="push")
        (artifact,) = plan["artifacts"]["paths"]
        self.child = yaml.safe_load((folder / artifact).read_text())

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        """The child's jobs, in the order of their stages; jobs of a stage are in the order of
        their needs.
        """
        found = {
            name: job
            for name, job in self.child.items()
            if isinstance(job, dict) and "script" in job
        }
        stages = self.child["stages"]
        return dict(sorted(found.items(), key=lambda item: stages.index(item[1]["stage"])))

    def deploy(self) -> None:
        """The job that triggers the child, and the child while it waits."""
        own = self.file["deploy-child:dev"]
        assert own["trigger"]["strategy"] == "depend"
        with self._held(own):
            for name, job in self.jobs.items():
                with ExitStack() as stack:
                    if "resource_group" in job:
                        stack.enter_context(self._held(job))
                    tokens = {
                        variable: self._token(asked["aud"])
                        for variable, asked in self.child[job["extends"]]["id_tokens"].items()
                    }
                    variables = {
                        key: self._expanded(text) for key, text in own["variables"].items()
                    }
                    folder = self.project.clone(self.commit)
                    self._run(
                        name,
                        job["script"],
                        folder,
                        {**tokens, **variables},
                        source="parent_pipeline",
                    )
                    if self.ran[-1].status:
                        return

    @property
    def colour(self) -> str:
        return "red" if any(job.status for job in self.ran) else "green"

    @property
    def log(self) -> str:
        return "\n".join(job.log for job in self.ran)

    def _held(self, job: Mapping[str, Any]) -> "_Group":
        return _Group(self.project.groups.setdefault(job["resource_group"], threading.Lock()))

    def _run(
        self, name: str, lines: list[str], folder: Path, env: Mapping[str, str], *, source: str
    ) -> None:
        own = {
            "GITLAB_CI": "true",
            "CI_PIPELINE_SOURCE": source,
            # A child pipeline has a number of its own, which says nothing of the order of its
            # parents.
            "CI_PIPELINE_IID": str(self.number if source == "push" else 2000 - self.number),
            "CI_COMMIT_REF_NAME": "main",
            "CI_COMMIT_BRANCH": "main",
            "CI_DEFAULT_BRANCH": "main",
            "CI_COMMIT_SHA": self.commit,
            "CI_PROJECT_PATH": "group/shop",
        }
        self.ran.append(self.project.script(name, lines, folder, {**own, **env}))

    def _expanded(self, text: str) -> str:
        values = {"CI_PIPELINE_IID": str(self.number), "CI_PIPELINE_SOURCE": "push"}
        return re.sub(r"\$(\w+)", lambda found: values[found[1]], text)

    def _token(self, audience: str) -> str:
        return self.project.sandbox.mint(
            project="group/shop", ref="main", ref_type="branch", audience=audience
        )


@dataclass
class _Group:
    """A resource group: one job at a time; who waits for itself would do so for ever."""

    lock: threading.Lock

    def __enter__(self) -> None:
        assert self.lock.acquire(timeout=100), (
            "a job waits for a resource group that nobody gives back"
        )

    def __exit__(self, *_: object) -> None:
        self.lock.release()


@dataclass
class GitHub:
    """A run for a push to main, by the reusable workflow. Its concurrency group keeps runs from
    overlapping.
    """

    project: SharedProject
    number: int
    commit: str

    def run(self) -> github_runner.WorkflowRun:
        folder = self.project.clone(self.commit)
        clone = Repo(folder)
        clone.git("remote", "add", "origin", "https://github.com/group/shop.git")
        # act copies no empty folders, and git needs refs/.
        clone.git("checkout", "--quiet", "-B", "main")
        runner = github_runner.Runner(
            folder=self.project.folder / f"runner-{self.number}",
            env={
                **jobs.github_variables(self.project.sandbox, "group/shop"),
                "AWS_ENDPOINT_URL": self.project.sandbox.state.aws_url,
                "AWS_EC2_METADATA_DISABLED": "true",
                "NO_COLOR": "1",
            },
        )
        file = github_runner.caller(folder, _CALLER)
        return runner.run(folder, file, github_runner.push(), number=self.number)
