"""The pipeline files of this repository, and the child pipelines that plans turn into, against
their schemas and cipipe.toml.
"""

import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from cipipe.model import Baseline, Mode, Plan, Reason, StagePlan, Status
from cipipe.report import gitlab
from cipipe.stages import KINDS

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONS = sorted((ROOT / ".github" / "actions").glob("*/action.yml"))
STAGE_WORKFLOW = "./.github/workflows/stage.yml"
CONFIG = tomllib.loads((ROOT / "cipipe.toml").read_text())


class _GitLabLoader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML with GitLab's `!reference`."""


_GitLabLoader.add_constructor(
    "!reference", lambda loader, node: tuple(loader.construct_sequence(node))
)


def load(path: str) -> dict[Any, Any]:
    document = yaml.load((ROOT / path).read_text(), _GitLabLoader)
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
    transform = ["--data-transform", "gitlab-ci"] if schema == "gitlab-ci" else []
    tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *transform, *map(str, files))


def test_gitlab_files_match_the_schema() -> None:
    check_schema("gitlab-ci", ROOT / ".gitlab-ci.yml", ROOT / gitlab.TEMPLATES)


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
    document = load(".gitlab-ci.yml")
    inputs = load(".github/workflows/destroy.yml")[True]["workflow_dispatch"]["inputs"]
    assert inputs["environment"]["options"] == list(CONFIG["environments"])
    for name, environment in CONFIG["environments"].items():
        job = document[f"destroy:{name}"]
        assert [rule["when"] for rule in job["rules"]] == ["manual"]
        assert job["environment"] == {"name": name, "action": "stop"}
        (script,) = job["script"]
        assert script.startswith(f'cipipe destroy --env {name} --confirm "$CONFIRM"')
        assert ("--allow-destroy" in script) is environment.get("protected", False)


def _references(job: dict[str, Any]) -> list[tuple[str, ...]]:
    """The `!reference` lines of a `before_script`."""
    return [line for line in job["before_script"] if isinstance(line, tuple)]


def test_gitlab_has_a_template_for_each_kind() -> None:
    templates = load(gitlab.TEMPLATES)
    assert {f".cipipe-{kind}" for kind in KINDS} <= set(templates)
    assert all(name.startswith(".") for name in templates)
    assert [name for name, job in templates.items() if "services" in job] == [".cipipe-image"]
    # The last job runs whatever is due by then, so it installs what both kinds need.
    finish = templates[f".cipipe-{gitlab.FINISH}"]
    assert finish["extends"] == [".cipipe-image", ".cipipe-terraform"]
    installs = {line[0] for line in _references(finish)}
    assert installs == {".cipipe-terraform", ".cipipe-docker-command"}
    assert ".cipipe-docker-command" in {line[0] for line in _references(templates[".cipipe-image"])}


def test_shell_in_gitlab_files() -> None:
    for path in (".gitlab-ci.yml", gitlab.TEMPLATES):
        for name, job in load(path).items():
            if not isinstance(job, dict) or not {"script", "before_script"} & set(job):
                continue
            lines = [
                line
                for line in [*job.get("before_script", ()), *job.get("script", ())]
                if isinstance(line, str)
            ]
            done = subprocess.run(
                [
                    str(Path(sys.executable).with_name("shellcheck")),
                    "--shell=bash",
                    "--exclude=SC2154",
                    "-",
                ],
                input="\n".join(lines) + "\n",
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, name + done.stdout


def plans() -> list[Plan]:
    statuses = [
        (Status.DUE, Reason.CHANGED),
        (Status.CONDITIONAL, Reason.UPSTREAM),
        (Status.UNCHANGED, Reason.UNCHANGED),
    ]
    needs = {"iac": (), "image": ("iac",), "dags": ("iac", "image")}
    kinds = {"iac": "terraform", "image": "image", "dags": "dags"}
    made = []
    for mode, combination in itertools.product(
        (Mode.DEPLOY, Mode.VERIFY), itertools.product(statuses, repeat=3)
    ):
        stages = [
            StagePlan(
                name=name,
                kind=kinds[name],
                status=status,
                reason=reason,
                detail="",
                fingerprint="0" * 64,
                deployed_fingerprint=None,
                paths=(b"a\xff",),
                needs=needs[name],
                steps=(),
            )
            for name, (status, reason) in zip(needs, combination, strict=True)
        ]
        if all(status is Status.UNCHANGED for status, _ in combination):
            reason = Reason.NOTHING_DUE
            stages.append(
                StagePlan(
                    name="default",
                    kind="command",
                    status=Status.DUE,
                    reason=reason,
                    detail="",
                    fingerprint="0" * 64,
                    deployed_fingerprint=None,
                    paths=(),
                    needs=(),
                    steps=(),
                )
            )
        made.append(
            Plan(
                project="dbt-deployment",
                environment="dev",
                mode=mode,
                provider="gitlab",
                commit="0" * 40,
                baseline=Baseline("ledger"),
                stages=tuple(stages),
            )
        )
    hostile = StagePlan(
        name="x'\n: {}$A\u2028\U0001f600",
        kind="image",
        status=Status.DUE,
        reason=Reason.FORCED,
        detail="",
        fingerprint="0" * 64,
        deployed_fingerprint=None,
        paths=(),
        needs=(),
        steps=(),
    )
    return [
        *made,
        Plan(
            project="p",
            environment="dev",
            mode=Mode.DEPLOY,
            provider="gitlab",
            commit="0" * 40,
            baseline=Baseline("none"),
            stages=(),
        ),
        Plan(
            project="p'\n",
            environment="$dev",
            mode=Mode.DEPLOY,
            provider="gitlab",
            commit="0" * 40,
            baseline=Baseline("none"),
            stages=(hostile,),
        ),
    ]


def test_child_pipelines_match_the_schema(tmp_path: Path) -> None:
    files = []
    for number, plan in enumerate(plans()):
        files.append(tmp_path / f"{number}.yml")
        files[-1].write_text(gitlab.render(plan), encoding="utf-8")
    assert len(files) > 50
    check_schema("gitlab-ci", *files)


def test_one_deployment_at_a_time_to_an_environment() -> None:
    """The trigger holds the lock for its child, by which no job of the child may be held up;
    destroying waits as well.
    """
    document = load(".gitlab-ci.yml")
    assert document[".run"]["trigger"]["strategy"] == "depend"
    triggers = {
        name: job
        for name, job in document.items()
        if isinstance(job, dict) and job.get("extends") == ".run"
    }
    assert set(triggers) == {"verify", *(f"deploy:{name}" for name in CONFIG["environments"])}
    assert "resource_group" not in {**document[".run"], **triggers["verify"]}
    for name in CONFIG["environments"]:
        group = f"{CONFIG['project']['name']}/{name}"
        assert (
            document[f"deploy:{name}"]["resource_group"]
            == document[f"destroy:{name}"]["resource_group"]
            == group
        )
    for plan in plans():
        assert "resource_group" not in gitlab.render(plan)


def test_the_lock_is_that_of_the_environment_that_the_plan_is_for() -> None:
    """Which job triggers depends on the ref, as `deploy_from` does."""
    document = load(".gitlab-ci.yml")
    for name, environment in CONFIG["environments"].items():
        (rule,) = document[f"deploy:{name}"]["rules"]
        assert rule == {"if": document[f"destroy:{name}"]["rules"][0]["if"]}
        assert ("CI_COMMIT_TAG" in rule["if"]) is ("tags" in environment["deploy_from"])
        assert ("CI_COMMIT_BRANCH" in rule["if"]) is ("branches" in environment["deploy_from"])
