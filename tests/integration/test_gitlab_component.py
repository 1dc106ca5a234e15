"""The GitLab component, this repository's pipeline that uses it, and the child pipelines that
plans turn into, against GitLab's schema and cipipe.toml.
"""

import itertools
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from cipipe.model import Baseline, Mode, Plan, Reason, StagePlan, Status
from cipipe.report import gitlab
from support.component import DEPLOY, component, spec
from support.tools import ROOT

CONFIG = tomllib.loads((ROOT / "cipipe.toml").read_text())
FILE = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())
IMAGE = "registry.example/cipipe:1"

MERGE_REQUEST = '$CI_PIPELINE_SOURCE == "merge_request_event"'
SAME_PROJECT = "$CI_MERGE_REQUEST_SOURCE_PROJECT_PATH == $CI_MERGE_REQUEST_PROJECT_PATH"
ANOTHER_PROJECT = "$CI_MERGE_REQUEST_SOURCE_PROJECT_PATH != $CI_MERGE_REQUEST_PROJECT_PATH"


def included() -> list[dict[str, Any]]:
    """The jobs of each include of this repository's pipeline, by the name of its environment."""
    for one in FILE["include"]:
        assert ROOT / one["local"] == DEPLOY
    return [one["inputs"] for one in FILE["include"]]


def check_schema(folder: Path, *documents: str) -> None:
    files = []
    for number, document in enumerate(documents):
        files.append(folder / f"{number}.yml")
        files[-1].write_text(document, encoding="utf-8")
    program = str(Path(sys.executable).with_name("check-jsonschema"))
    schema = ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"]
    done = subprocess.run(
        [program, *schema, *map(str, files)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def job(name: str, **inputs: Any) -> dict[str, Any]:
    """A job of the component, with what it extends."""
    jobs = component({"image": IMAGE, **inputs})
    found = jobs[name]
    made: dict[str, Any] = {}
    while True:
        variables = {**found.get("variables", {}), **made.get("variables", {})}
        made = {**found, **made, "variables": variables}
        if "extends" not in found:
            return made
        found = jobs[found["extends"]]


def test_every_input_is_described_and_documented() -> None:
    page = (ROOT / "docs/gitlab.md").read_text()
    for name, declared in spec().items():
        assert declared["description"].endswith("."), name
        assert f"| `{name}` |" in page, name
        default = declared.get("default")
        if isinstance(default, str) and default:
            assert f"`{default}`" in page, name


def test_this_repository_uses_it_for_every_environment() -> None:
    assert [one["environment"] for one in included()] == list(CONFIG["environments"])
    for inputs in included():
        refs = CONFIG["environments"][inputs["environment"]]["deploy_from"]
        made = job(f"deploy:{inputs['environment']}", **inputs)
        assert made["stage"] in FILE["stages"]
        assert ("CI_COMMIT_TAG" in made["rules"][0]["if"]) is ("tags" in refs)
        assert ("CI_COMMIT_BRANCH" in made["rules"][0]["if"]) is ("branches" in refs)
        # Only what has a role that reads can be verified against.
        has_role = "verify_role_arn" in CONFIG["environments"][inputs["environment"]]
        assert inputs.get("verify", True) is has_role
        destroy = job(f"destroy:{inputs['environment']}", **inputs)
        assert inputs.get("deploy_if", spec()["deploy_if"]["default"]) in destroy["rules"][0]["if"]


@pytest.mark.parametrize("pipeline", ["job", "child"])
def test_it_matches_the_schema(pipeline: str, tmp_path: Path) -> None:
    # The schema wants one tag at least; GitLab itself accepts none.
    tags = ["docker"]
    every = [component({**one, "pipeline": pipeline, "tags": tags}) for one in included()]
    own = {key: value for key, value in FILE.items() if key != "include"}
    check_schema(tmp_path, json.dumps(own), json.dumps({**own, **every[0], **every[1]}))


def test_four_lines_are_enough() -> None:
    """Only the image has no default, and none of the defaults names this repository."""
    assert [name for name, one in spec().items() if "default" not in one] == ["image"]
    assert job("deploy:dev")["image"] == IMAGE
    assert job("deploy:dev")["id_tokens"] == {"AWS_ID_TOKEN": {"aud": "$CI_SERVER_URL"}}


def test_one_deployment_at_a_time_to_an_environment() -> None:
    """A trigger holds the lock for its child, by which no job of the child may be held up."""
    for environment in ("dev", "live"):
        for name in ("deploy", "deploy-child", "destroy"):
            made = job(f"{name}:{environment}", environment=environment)
            assert made["resource_group"] == environment
    assert job("deploy-child:dev")["trigger"]["strategy"] == "depend"
    for name in ("plan", "plan-child", "verify"):
        assert "resource_group" not in job(f"{name}:dev")
    for plan in plans():
        assert "resource_group" not in gitlab.render(plan, approval={"iac"})


def test_who_runs_when() -> None:
    rules = {
        name: job(name)["rules"] for name in component({"image": IMAGE}) if not name.startswith(".")
    }
    request = f'"true" == "true" && {MERGE_REQUEST}'
    assert rules["verify:dev"] == [{"if": f"{request} && {SAME_PROJECT}"}]
    assert rules["plan:dev"] == [{"if": f"{request} && {ANOTHER_PROJECT}"}]
    deploys = (
        '$CI_PIPELINE_SOURCE != "merge_request_event" && ($CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH)'
        ' && ("false" != "true" || $CI_PIPELINE_SOURCE != "schedule")'
    )
    assert rules["deploy:dev"] == [{"if": f'"job-none" == "job-none" && {deploys}'}]
    approved = f'"job-none" == "job-manual" && {deploys}'
    assert rules["save-plan:dev"] == [{"if": approved}]
    # Not `allow_failure`: the pipeline waits for it.
    assert rules["apply:dev"] == [{"if": approved, "when": "manual"}]
    for name in ("plan-child:dev", "deploy-child:dev"):
        assert rules[name] == [{"if": f'"job" == "child" && {deploys}'}]
    assert rules["destroy:dev"] == [{"if": deploys, "when": "manual", "allow_failure": True}]


def test_only_the_id_of_a_plan_is_handed_over() -> None:
    """The job that a person starts applies that plan; all other stages come after it."""
    inputs = {"environment": "live", "approval": "manual", "stages": "iac dags"}
    save, apply = job("save-plan:live", **inputs), job("apply:live", **inputs)
    assert save["script"] == [
        "cipipe iac plan --env live --save --if-due --id-file cipipe-plan.env"
    ]
    assert save["artifacts"] == {"reports": {"dotenv": "cipipe-plan.env"}}
    assert apply["script"] == [
        '[ "$CIPIPE_PLAN_ID" = none ] || cipipe iac apply --env live --plan "$CIPIPE_PLAN_ID"\n',
        "cipipe run --env live iac dags",
    ]
    # GitLab's protected environments and approvals are about deployments.
    assert apply["environment"] == {"name": "live"}
    assert save["resource_group"] == apply["resource_group"] == "live"
    # It gets the ID because its stage comes later, and waits for all jobs before it.
    stages = [FILE["stages"].index(one["stage"]) for one in (save, apply)]
    assert stages == sorted(set(stages))
    assert "needs" not in apply


def test_a_schedule_looks_for_drift_where_that_is_wanted() -> None:
    made = job("drift:dev", drift=True)
    assert made["script"] == ["cipipe drift --env dev"]
    assert "AWS_ID_TOKEN" in made["id_tokens"]
    assert made["interruptible"] is True
    assert "resource_group" not in made
    ref = "($CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH)"
    (rule,) = made["rules"]
    assert rule["if"] == f'"true" == "true" && $CI_PIPELINE_SOURCE == "schedule" && {ref}'
    # Nothing is deployed then.
    for name in ("deploy", "save-plan", "apply", "plan-child", "deploy-child", "destroy"):
        (rule,) = job(f"{name}:dev", drift=True)["rules"]
        assert rule["if"].endswith('("true" != "true" || $CI_PIPELINE_SOURCE != "schedule")')


def test_a_fork_gets_no_identity() -> None:
    assert "id_tokens" not in job("plan:dev")
    assert job("plan:dev")["script"] == ["cipipe plan --env dev --offline"]
    for name in ("verify", "deploy", "save-plan", "apply", "plan-child", "destroy"):
        assert "AWS_ID_TOKEN" in job(f"{name}:dev")["id_tokens"]


def test_only_what_reads_may_be_interrupted() -> None:
    interruptible = {name: job(f"{name}:dev")["interruptible"] for name in ("plan", "verify")}
    assert interruptible == {"plan": True, "verify": True}
    for name in ("deploy", "save-plan", "apply"):
        assert not job(f"{name}:dev")["interruptible"]
    assert not job("destroy:dev")["interruptible"]


def test_a_lost_runner_is_retried_and_a_failed_deployment_is_not() -> None:
    for name in ("deploy", "verify", "destroy"):
        made = job(f"{name}:dev")
        assert made["retry"]["when"] == ["runner_system_failure", "scheduler_failure"]
        assert made["timeout"] == "90 minutes"


def test_destroying_is_confirmed() -> None:
    made = job("destroy:live", environment="live")
    assert made["environment"] == {"name": "live", "action": "stop"}
    assert made["variables"]["CONFIRM"] == ""
    assert made["script"][-1] == 'cipipe destroy --env live --confirm "$CONFIRM" "$@"'


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({}, []),
        ({"ALLOW_DESTROY": "true", "DESTROY_EMPTY": "true"}, ["--allow-destroy", "--empty"]),
        ({"DESTROY_DRY_RUN": "true", "DESTROY_EMPTY": "false"}, ["--dry-run"]),
    ],
)
def test_variables_are_options_of_destroy(
    variables: dict[str, str], options: list[str], tmp_path: Path
) -> None:
    made = job("destroy:dev")
    fake = tmp_path / "cipipe"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o700)
    env = {**made["variables"], "CONFIRM": "dev", **variables}
    done = subprocess.run(
        ["sh", "-eu", "-c", "\n".join(made["script"])],
        env={**env, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = ["destroy", "--env", "dev", "--confirm", "dev", *options]
    assert done.stdout.splitlines() == expected


def test_a_child_gets_what_the_jobs_of_the_component_have() -> None:
    inputs = {
        "install": ["pip install 'cipipe-deploy' && echo \"$HOME\""],
        "tags": ["docker", "large"],
        "services": [{"name": "docker:dind", "alias": "docker", "command": ["--mtu=1400"]}],
        "timeout": "2 hours",
    }
    plan = job("plan-child:dev", pipeline="child", **inputs)
    lines = plan["script"][0].splitlines()
    given = gitlab.keywords("\n".join(lines[1:-1]).encode())
    deploy = job("deploy:dev", **inputs)
    assert given == {name: deploy[name] for name in given}
    assert set(given) == set(deploy) - {
        "environment",
        "extends",
        "id_tokens",
        "interruptible",
        "resource_group",
        "rules",
        "script",
        "stage",
    }


def test_what_the_trigger_forwards() -> None:
    trigger = job("deploy-child:dev")
    assert trigger["variables"] == {
        "CIPIPE_PIPELINE_IID": "$CI_PIPELINE_IID",
        "CIPIPE_PIPELINE_SOURCE": "$CI_PIPELINE_SOURCE",
    }
    (included,) = trigger["trigger"]["include"]
    assert included == {"artifact": "cipipe-dev.yml", "job": "plan-child:dev"}
    assert job("plan-child:dev")["artifacts"]["paths"] == ["cipipe-dev.yml"]


def test_shell() -> None:
    scripts = [FILE["test"]["script"], *(one["install"] for one in included())]
    for inputs in included():
        made = component({**inputs, "stages": "iac image", "approval": "manual"})
        scripts += [one.get("script", []) for one in made.values()]
    for lines in scripts:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("shellcheck")),
                "--shell=bash",
                "-e",
                "SC2154",
                "-",
            ],
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


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
    keywords = {"image": IMAGE, "tags": ["docker"], "before_script": ["cipipe --version"]}
    documents = [gitlab.render(plan, jobs=keywords) for plan in plans()]
    documents += [gitlab.render(plan, jobs=keywords, approval={"iac"}) for plan in plans()]
    assert len(documents) > 50
    check_schema(tmp_path, *documents)
