"""The GitHub workflows of this repository, against their schemas and cipipe.toml."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONS = sorted((ROOT / ".github" / "actions").glob("*/action.yml"))
STAGE_WORKFLOW = "./.github/workflows/stage.yml"
# The only jobs that may write anywhere in GitHub.
PUBLISHES = {
    ("release.yml", "image"): {
        "contents": "read",
        "packages": "write",
        "id-token": "write",
        "attestations": "write",
    },
    ("release.yml", "release"): {"contents": "write"},
}
CONFIG = tomllib.loads((ROOT / "cipipe.toml").read_text())


def load(path: str) -> dict[Any, Any]:
    document = yaml.safe_load((ROOT / path).read_text())
    assert isinstance(document, dict)
    return document


def tool(*argv: str) -> None:
    """Run one of the development tools of this environment."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(argv[0])), *argv[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def check_schema(schema: str, *files: Path) -> None:
    tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files))


def test_workflows_match_the_schema() -> None:
    assert len(WORKFLOWS) >= 3
    check_schema("github-workflows", *WORKFLOWS)
    check_schema("github-actions", *ACTIONS)


def test_zizmor_finds_nothing() -> None:
    tool("zizmor", "--offline", ".github")


def test_actionlint_finds_nothing() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    tool("actionlint", "-no-color", "-shellcheck", str(shellcheck))


@pytest.mark.parametrize(
    "path", [*WORKFLOWS, *ACTIONS], ids=lambda path: path.parent.name + "/" + path.name
)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    for uses in re.findall(r"uses: *(.*)", path.read_text()):
        assert uses.startswith("./") or re.fullmatch(
            r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", uses
        ), uses


def called(job: dict[str, Any]) -> dict[str, Any]:
    """The jobs of the workflow that a job calls."""
    jobs = load(job["uses"])["jobs"]
    assert isinstance(jobs, dict)
    return jobs


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_permissions_are_asked_for_by_job(path: Path) -> None:
    document = load(str(path))
    assert document["permissions"] == {}
    for name, job in document["jobs"].items():
        if (path.name, name) in PUBLISHES:
            assert job["permissions"] == PUBLISHES[path.name, name]
            continue
        assert set(job["permissions"]) <= {"contents", "id-token"}, name
        # A job that checks nothing out needs none.
        assert job["permissions"].get("contents", "read") == "read"
        if "uses" in job:
            # The caller grants exactly what the jobs of the called workflow ask for.
            asked = [below["permissions"] for below in called(job).values()]
            assert job["permissions"] == {
                key: value for permissions in asked for key, value in permissions.items()
            }
            continue
        wants_token = any(
            re.match(r"(exec )?cipipe (run|plan|destroy)(?!.*--offline)", step.get("run", ""))
            # PyPI takes one, too.
            or step.get("uses", "").startswith("pypa/gh-action-pypi-publish@")
            for step in job["steps"]
        )
        assert ("id-token" in job["permissions"]) is wants_token, name
        assert "timeout-minutes" in job


def test_a_job_for_each_stage_in_the_order_of_needs() -> None:
    jobs = load(".github/workflows/deploy.yml")["jobs"]
    stages = {
        name: stage for name, stage in CONFIG["stages"].items() if stage.get("when", "due") == "due"
    }
    assert set(jobs) == {"test", "plan", "finish", *stages}
    assert jobs["test"]["uses"] == "./.github/workflows/test.yml"
    for name, stage in stages.items():
        job = jobs[name]
        assert set(job["needs"]) == {"test", "plan", *stage.get("needs", ())}
        assert f"needs.plan.outputs.due_{name} == 'true'" in job["if"]
        assert f"due_{name}" in jobs["plan"]["outputs"]
        assert "!cancelled() && !failure()" in job["if"]
        assert job["uses"] == STAGE_WORKFLOW
        assert job["with"]["arguments"] == name
        assert job["with"]["environment"] == "${{ needs.plan.outputs.environment }}"
        assert job["with"].get("terraform", False) is (stage["kind"] == "terraform")


def test_stage_jobs_share_one_definition() -> None:
    """It takes the names through the environment: an expression in a script could be shell code."""
    (job,) = load(STAGE_WORKFLOW)["jobs"].values()
    assert job["env"] == {
        "ENVIRONMENT": "${{ inputs.environment }}",
        "ARGUMENTS": "${{ inputs.arguments }}",
    }
    setup, run = job["steps"][-2:]
    assert setup["uses"] == "./.github/actions/setup"
    assert setup["with"] == {"terraform": "${{ inputs.terraform }}"}
    assert run == {"run": 'exec cipipe run --env "$ENVIRONMENT" $ARGUMENTS'}


def test_the_last_job_of_a_workflow_plans_again() -> None:
    """With the tools of every kind, and after every stage; a pull request has no such job."""
    document = load(".github/workflows/deploy.yml")
    jobs, job = document["jobs"], document["jobs"]["finish"]
    assert set(job["needs"]) == set(jobs) - {"finish"}
    assert job["if"] == "${{ !cancelled() && !failure() && needs.plan.outputs.mode == 'deploy' }}"
    assert {"environment", "mode", "any"} <= set(jobs["plan"]["outputs"])
    assert job["uses"] == STAGE_WORKFLOW
    assert job["with"]["terraform"] is True
    assert job["with"]["arguments"].startswith("--if-newest ")
    # The plan waits with the rest: the group is the workflow's, not that of single jobs.
    assert document["concurrency"]["cancel-in-progress"] is False
    assert not [name for name in jobs if "concurrency" in jobs[name]]


def test_environments_can_be_destroyed_by_hand_alone() -> None:
    inputs = load(".github/workflows/destroy.yml")[True]["workflow_dispatch"]["inputs"]
    assert inputs["environment"]["options"] == list(CONFIG["environments"])
