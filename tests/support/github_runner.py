"""GitHub workflows, run here by act (https://nektosact.com) as a runner of GitHub's would.

What act does not know of is not tested with it: concurrency, environments, timeouts, permissions
(every job gets the variables for tokens) and containers.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from support.environment import shell_environment
from support.git import ENV
from support.tools import ROOT

# Where a caller finds the reusable workflow and the action.
OWN = "OWNER/cipipe@VERSION"
WORKFLOW = ROOT / ".github/workflows/cipipe.yml"

_TEST = Path(sys.executable).parent


@dataclass(frozen=True)
class Event:
    """What starts a workflow, as GitHub tells its jobs."""

    name: str
    ref: str
    payload: Mapping[str, Any] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return {"GITHUB_REF": self.ref}


def push(ref: str = "refs/heads/main") -> Event:
    return Event("push", ref, {"ref": ref})


def pull_request(project: str, *, head: str | None = None, author: str = "developer") -> Event:
    """A pull request to main; `head` is the repository that it comes from."""
    about = {
        "number": 7,
        "head": {"ref": "feature", "repo": {"full_name": head or project}},
        "base": {"ref": "main", "repo": {"full_name": project}},
        "user": {"login": author},
    }
    return Event("pull_request", "refs/pull/7/merge", {"number": 7, "pull_request": about})


def by_hand(**inputs: Any) -> Event:
    """Started on main, with these inputs; their names have `_` for `-`."""
    ref = "refs/heads/main"
    given = {name.replace("_", "-"): value for name, value in inputs.items()}
    return Event("workflow_dispatch", ref, {"ref": ref, "inputs": given})


@dataclass(frozen=True)
class WorkflowRun:
    """A workflow that has ended."""

    status: int
    log: str
    # The ids of the jobs that ran, in the order in which they ended, each with the stage of its
    # matrix.
    jobs: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def green(self) -> bool:
        return self.status == 0


@dataclass(frozen=True)
class Started:
    """A workflow that runs, and where its output goes."""

    process: "subprocess.Popen[bytes]"
    output: Path

    def ended(self) -> WorkflowRun:
        """Wait for its end."""
        status = self.process.wait(timeout=600)
        printed = self.output.read_text().splitlines()
        lines = [json.loads(line) for line in printed if line.startswith("{")]
        results = [
            (" ".join([line["jobID"], *line["matrix"].values()]), line["jobResult"])
            for line in lines
            if "jobResult" in line
        ]
        return WorkflowRun(
            status=status,
            log="\n".join(line.get("msg", "").rstrip("\n") for line in lines),
            jobs=tuple(name for name, _ in results),
            failed=tuple(name for name, result in results if result != "success"),
        )


@dataclass
class Runner:
    """A runner in a folder of its own. Every job finds `programs` where it sets up Python."""

    folder: Path
    env: Mapping[str, str]
    programs: Path = _TEST
    # Variables of the repository.
    variables: Mapping[str, str] = field(default_factory=dict)
    # The repository with the reusable workflow and the action.
    own: Path = ROOT

    def __post_init__(self) -> None:
        python = self.folder / "setup-python"
        python.mkdir(parents=True)
        (python / "action.yml").write_text(
            yaml.safe_dump(
                {
                    "name": "setup-python",
                    "description": "The Python that is here.",
                    "runs": {
                        "using": "composite",
                        "steps": [
                            {"run": f'echo "{self.programs}" >>"$GITHUB_PATH"', "shell": "bash"}
                        ],
                    },
                }
            )
        )
        self._actions = {_setup_python(): python, OWN: self.own}

    def run(
        self, checkout: Path, workflow: Path, event: Event, *, number: int = 1, **env: str
    ) -> WorkflowRun:
        """Run the jobs of a workflow file for an event, one after another."""
        return self.start(checkout, workflow, event, number=number, **env).ended()

    def start(
        self, checkout: Path, workflow: Path, event: Event, *, number: int = 1, **env: str
    ) -> "Started":
        """The same, without waiting for it. `number` is the run's, and orders runs."""
        payload = self.folder / f"event-{number}.json"
        payload.write_text(json.dumps({"repository": {"default_branch": "main"}, **event.payload}))
        variables = self.folder / f"variables-{number}.env"
        everything = {**self.env, **event.env, "GITHUB_RUN_ID": str(number), **env}
        variables.write_text("".join(f"{key}={value}\n" for key, value in everything.items()))
        argv = [str(_TEST / "act"), event.name, "--json", "--workflows", str(workflow)]
        argv += ["--eventpath", str(payload), "--env-file", str(variables), "--no-cache-server"]
        argv += ["--platform", "ubuntu-24.04=-self-hosted", "--concurrent-jobs", "1"]
        for name, folder in self._actions.items():
            argv += ["--local-repository", f"{name}={folder}"]
        for name, value in self.variables.items():
            argv += ["--var", f"{name}={value}"]
        own = {"HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / ".cache")}
        output = self.folder / f"output-{number}"
        with output.open("w") as file:
            process = subprocess.Popen(
                argv,
                cwd=checkout,
                env=shell_environment(ENV) | own | {"PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return Started(process, output)


def caller(folder: Path, text: str) -> Path:
    """Write a workflow that calls the reusable one, and give its path."""
    file = folder / ".github/workflows/cipipe.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def _setup_python() -> str:
    found: set[str] = set(re.findall(r"uses: (actions/setup-python@\w+)", WORKFLOW.read_text()))
    (pinned,) = found
    return pinned
