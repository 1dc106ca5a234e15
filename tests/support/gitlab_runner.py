"""Pipelines of GitLab, run by gitlab-ci-local: each job is a container on a sandbox's Docker.

What it lacks, the tests provide: the ID token is a variable, and jobs reach the sandbox's daemon
by its socket, without the service. It knows neither resource groups nor environments.
"""

import itertools
import json
import re
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.clone import Clone
from support.job_image import DEBIAN, debian_base, docker
from support.tools import ROOT, require

# What .gitlab-ci.yml names, and cannot be pulled everywhere.
PYTHON = "python:3.12-trixie"

_HOME = "gitlab-home"
_VARIABLES = "gitlab-variables.json"
_STUB = "gitlab-stub.json"
_CHILD = "gitlab-child.json"
# The component's jobs that start a container.
_JOBS = ("plan", "verify", "deploy", "plan-child", "destroy")

# A job with this image has Python and git, as the official image does.
_PYTHON = f"""\
FROM {DEBIAN}
RUN apt-get update -qq && apt-get install -qq --no-install-recommends git python3 python3-venv
RUN python3 -m venv /usr/local
"""


@dataclass
class Pipeline:
    """What one pipeline has done."""

    status: int
    log: str

    @property
    def passed(self) -> set[str]:
        return self._ended(r" PASS  (\S+)") - {"test"}

    @property
    def failed(self) -> set[str]:
        """Also those that may fail without failing the pipeline, which are those by hand."""
        return self._ended(r" FAIL  (\S+)| WARN  (destroy:\w+)")

    def _ended(self, pattern: str) -> set[str]:
        return {found[0] for line in self.log.splitlines() if (found := _groups(pattern, line))}


def _groups(pattern: str, line: str) -> list[str]:
    found = re.match(pattern, line)
    return [group for group in found.groups() if group] if found else []


@dataclass
class Runner:
    """gitlab-ci-local in a clone, with a running sandbox."""

    clone: Clone
    # The host and path of the project at GitLab.
    project: str
    # Jobs that are not to do what they say, by what they do instead.
    replaced: Mapping[str, list[str]] = field(default_factory=dict)
    # Has sh and chown, for the runner itself.
    helper_image: str = PYTHON
    number: int = 40

    def __post_init__(self) -> None:
        program = ROOT / ".cipipe/gitlab_ci_local/node_modules/.bin/gitlab-ci-local"
        self.program = require(program, "running GitLab's pipelines")
        require("rsync", "running GitLab's pipelines")
        self.folder = self.clone.folder
        (self.folder.parent / _HOME).mkdir()
        remotes = self.clone.git("remote").split()
        for remote in remotes:
            self.clone.git("remote", "remove", remote)
        self.clone.git("remote", "add", "gcl-origin", f"https://gitlab.com/{self.project}.git")
        found = self.clone.cipipe("sandbox", "env", "--format", "json")
        self.sandbox: dict[str, str] = found.document["environment"]

    def push(self, *arguments: str, jobs: tuple[str, ...] = (), **variables: str) -> Pipeline:
        """The pipeline of the branch `main`. `arguments` are those of `cipipe sandbox token`."""
        return self._run(self._token(*(arguments or ("--branch", "main"))), variables, jobs)

    def tag(self, name: str, jobs: tuple[str, ...] = (), **variables: str) -> Pipeline:
        ref = {"CI_COMMIT_BRANCH": "", "CI_COMMIT_TAG": name, "CI_COMMIT_REF_NAME": name}
        return self._run(self._token("--tag", name), {**ref, **variables}, jobs)

    def merge_request(self, branch: str, source: str | None = None) -> Pipeline:
        """The pipeline of a merge request. `source` is the fork that it comes from: its jobs have
        no token.
        """
        request = {
            "CI_PIPELINE_SOURCE": "merge_request_event",
            "CI_COMMIT_BRANCH": "",
            "CI_COMMIT_REF_NAME": branch,
            "CI_COMMIT_REF_PROTECTED": "false",
            "CI_MERGE_REQUEST_IID": "5",
            "CI_MERGE_REQUEST_PROJECT_PATH": self.project,
            "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": source or self.project,
        }
        token = {} if source else self._token("--branch", branch, "--event", "merge-request")
        return self._run(token, request, ())

    def planned(self) -> tuple[int, str]:
        """The number of a pipeline for main, and the child that its job `plan-child:dev` wrote."""
        pipeline = self.push(jobs=("plan-child:dev",))
        assert pipeline.passed == {"plan-child:dev"}, pipeline.log
        return self.number, (self.folder / "cipipe-dev.yml").read_text()

    def child(self, parent: int, document: str) -> Pipeline:
        """The child pipeline of the pipeline with that number."""
        # gitlab-ci-local cannot start a job that triggers a child.
        child = json.loads(document)
        child[".cipipe"] |= {"services": []}
        (self.folder / _CHILD).write_text(json.dumps(child))
        variables = {
            "CIPIPE_PIPELINE_IID": str(parent),
            "CIPIPE_PIPELINE_SOURCE": "push",
            "CI_PIPELINE_SOURCE": "parent_pipeline",
        }
        return self._run(self._token("--branch", "main"), variables, (), file=_CHILD)

    def _token(self, *arguments: str) -> dict[str, str]:
        printed = self.clone.start(
            "sandbox", "token", "--provider", "gitlab", "--format", "json", *arguments
        ).communicate(timeout=60)[0]
        return dict(json.loads(printed)["environment"])

    def _run(
        self,
        token: Mapping[str, str],
        variables: Mapping[str, str],
        jobs: tuple[str, ...],
        file: str = _STUB,
    ) -> Pipeline:
        self.number += 1
        known = {
            **{
                name: value
                for name, value in self.sandbox.items()
                if name.startswith(("AWS_E", "TF_VAR_", "DOCKER_HOST"))
            },
            "BASE_IMAGE": self.clone.env.get("BASE_IMAGE", ""),
            "CI_COMMIT_REF_PROTECTED": "true",
            "CI_SERVER_URL": "https://gitlab.com",
            "DOCKER_CERT_PATH": "",
            "DOCKER_TLS_VERIFY": "",
            "GITLAB_CI": "true",
            "CI_PIPELINE_IID": str(self.number),
            **token,
        }
        (self.folder.parent / _VARIABLES).write_text(json.dumps(known))
        self._stub()

        socket = Path(self.sandbox["DOCKER_HOST"].removeprefix("unix://")).parent
        terraform = require("terraform", "deploying").resolve()
        plugins = Path.home() / ".terraform.d/plugins"
        volumes = [f"{socket}:{socket}", f"{terraform}:/usr/local/bin/terraform:ro"]
        if plugins.exists():
            homes = [f"{home}/.terraform.d/plugins:ro" for home in ("/root", "/home/cipipe")]
            volumes += [f"{plugins.resolve()}:{home}" for home in homes]
        argv = [
            *(str(self.program), "--home", str(self.folder.parent / _HOME), "--file", file),
            *("--variables-file", f"../{_VARIABLES}", "--concurrency", "1"),
            *(
                "--pull-policy",
                "if-not-present",
                "--helper-image",
                self.helper_image,
                "--network",
                "host",
            ),
            # The schema wants one tag at least; GitLab itself accepts none.
            *("--ignore-schema-paths", "#/definitions/tags/minItems"),
            *(word for volume in volumes for word in ("--volume", volume)),
            *(
                word
                for name, value in {"GITLAB_CI": "true", **variables}.items()
                for word in ("--variable", f"{name}={value}")
            ),
            *jobs,
        ]
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env={**self.clone.env, "DOCKER_HOST": self.sandbox["DOCKER_HOST"], "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return Pipeline(done.returncode, done.stdout + done.stderr)

    def _stub(self) -> None:
        """The project's file, with jobs that reach the daemon without the service."""
        environments = tomllib.loads((self.folder / "cipipe.toml").read_text())["environments"]
        document: dict[str, Any] = {"include": [{"local": ".gitlab-ci.yml"}]}
        for name in itertools.product(_JOBS, environments):
            document[":".join(name)] = {"services": []}
        document |= {name: {"script": lines} for name, lines in self.replaced.items()}
        (self.folder / _STUB).write_text(json.dumps(document))


def build_python_image(env: Mapping[str, str]) -> None:
    """Give a daemon the image that this repository's jobs run in."""
    if docker(env, "pull", "--quiet", PYTHON).returncode == 0:
        return
    debian_base(env)
    done = docker(env, "build", "--network", "host", "--tag", PYTHON, "-", text=_PYTHON)
    assert done.returncode == 0, done.stdout + done.stderr
