"""A plan as a child pipeline."""

import json
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from cipipe.model import Baseline, Mode, Plan, Reason, StagePlan, Status
from cipipe.report import gitlab

ID = "CIPIPE_PLAN_ID"


def stage(
    name: str,
    kind: str,
    status: Status,
    reason: Reason = Reason.CHANGED,
    needs: tuple[str, ...] = (),
) -> StagePlan:
    return StagePlan(
        name=name,
        kind=kind,
        status=status,
        reason=reason,
        detail="",
        fingerprint="0" * 64,
        deployed_fingerprint=None,
        paths=(),
        needs=needs,
        steps=(),
    )


def plan(
    *stages: StagePlan, mode: Mode = Mode.DEPLOY, environment: str = "dev", project: str = "dbt"
) -> Plan:
    return Plan(
        project=project,
        environment=environment,
        mode=mode,
        provider="gitlab",
        commit="0" * 40,
        baseline=Baseline("ledger"),
        stages=stages,
    )


def rendered(made: Plan, **options: Any) -> dict[str, Any]:
    text = gitlab.render(made, **options)
    document = json.loads(text)
    assert yaml.safe_load(text) == document
    return {
        name: job for name, job in document.items() if isinstance(job, dict) and "script" in job
    }


def test_due_and_conditional_stages_are_jobs() -> None:
    jobs = rendered(
        plan(
            stage("iac", "terraform", Status.DUE),
            stage("image", "image", Status.UNCHANGED, Reason.UNCHANGED, ("iac",)),
            stage("dags", "dags", Status.CONDITIONAL, Reason.UPSTREAM, ("iac", "image")),
            stage("default", "command", Status.UNCHANGED, Reason.UNCHANGED),
        )
    )
    # GitLab lists one deployment for the pipeline: that of the last job.
    assert jobs == {
        "deploy:iac": {
            "extends": ".cipipe",
            "stage": "deploy",
            "environment": {"name": "dev", "action": "access"},
            "needs": [],
            "script": ["cipipe run iac --env dev"],
        },
        "deploy:dags": {
            "extends": ".cipipe",
            "stage": "deploy",
            "environment": {"name": "dev", "action": "access"},
            "needs": ["deploy:iac"],
            "script": ["cipipe run dags --env dev --if-ready"],
        },
        "finish": {
            "extends": ".cipipe",
            "stage": "finish",
            "environment": {"name": "dev"},
            "script": ["cipipe run --env dev --if-newest --only-due"],
        },
    }


def test_a_person_starts_what_needs_an_approval() -> None:
    jobs = rendered(
        plan(
            stage("net", "terraform", Status.UNCHANGED, Reason.UNCHANGED),
            stage("iac", "terraform", Status.DUE, needs=("net",)),
            stage("dags", "dags", Status.CONDITIONAL, Reason.UPSTREAM, ("iac",)),
        ),
        approval={"net", "iac"},
    )
    assert jobs == {
        "save-plan:iac": {
            "extends": ".cipipe",
            "stage": "deploy",
            "environment": {"name": "dev", "action": "access"},
            "needs": [],
            "script": [
                "cipipe iac plan --stage iac --env dev --save --if-due --id-file cipipe-plan.env"
            ],
            # The ID alone: never the plan.
            "artifacts": {"reports": {"dotenv": "cipipe-plan.env"}},
        },
        "deploy:iac": {
            "extends": ".cipipe",
            "stage": "deploy",
            "environment": {"name": "dev"},
            "needs": ["save-plan:iac"],
            "when": "manual",
            "allow_failure": False,
            "script": [
                f'[ "${ID}" = none ] || cipipe iac apply --env dev --plan "${ID}"',
                "cipipe run iac --env dev --if-ready",
            ],
        },
        "deploy:dags": {
            "extends": ".cipipe",
            "stage": "deploy",
            "environment": {"name": "dev", "action": "access"},
            "needs": ["deploy:iac"],
            "script": ["cipipe run dags --env dev --if-ready"],
        },
        # The deployment that GitLab lists is the one that was approved.
        "finish": {
            "extends": ".cipipe",
            "stage": "finish",
            "environment": {"name": "dev", "action": "access"},
            "script": ["cipipe run --env dev --if-newest --only-due"],
        },
    }


def test_no_approval_where_nothing_is_applied() -> None:
    iac = stage("iac", "terraform", Status.DUE)
    verify = plan(iac, mode=Mode.VERIFY)
    assert rendered(verify, approval={"iac"}) == rendered(verify)
    unchanged = plan(stage("iac", "terraform", Status.UNCHANGED, Reason.UNCHANGED))
    assert rendered(unchanged, approval={"iac"}) == rendered(unchanged)


def test_a_forced_stage_is_planned_although_it_is_not_due() -> None:
    forced = plan(stage("iac", "terraform", Status.DUE, Reason.FORCED))
    jobs = rendered(forced, approval={"iac"})
    assert "--if-due" not in jobs["save-plan:iac"]["script"][0]


def test_when_nothing_is_due_the_last_job_is_the_only_one() -> None:
    jobs = rendered(
        plan(
            stage("iac", "terraform", Status.UNCHANGED, Reason.UNCHANGED),
            stage("default", "command", Status.DUE, Reason.NOTHING_DUE),
        )
    )
    assert {name: job["script"] for name, job in jobs.items()} == {
        "finish": ["cipipe run --env dev --if-newest"]
    }
    assert jobs["finish"]["environment"] == {"name": "dev", "action": "access"}


def test_the_last_job_of_a_deployment_plans_again() -> None:
    assert list(rendered(plan(stage("iac", "terraform", Status.UNCHANGED, Reason.UNCHANGED)))) == [
        "finish"
    ]
    assert list(rendered(plan())) == ["finish"]


def test_the_last_job_waits_for_all_others() -> None:
    document = json.loads(
        gitlab.render(plan(stage("a", "command", Status.DUE), stage("b", "image", Status.DUE)))
    )
    assert document["stages"] == ["deploy", "finish"]
    assert document["finish"]["stage"] == "finish"
    assert (
        "needs" not in document["finish"]
    )  # which would let it start before the stages before it have ended


def test_no_job_needs_the_lock_of_its_parent() -> None:
    for mode in Mode:
        document = json.loads(gitlab.render(plan(stage("a", "command", Status.DUE), mode=mode)))
        assert not [name for name, job in document.items() if "resource_group" in job]


def test_what_always_runs_does_so_once() -> None:
    """It has its own job, and so has the default stage then; the last job skips both."""
    jobs = rendered(
        plan(
            stage("notify", "command", Status.DUE, Reason.FORCED),
            stage("default", "command", Status.DUE, Reason.NOTHING_DUE),
        )
    )
    assert {name: job["script"] for name, job in jobs.items()} == {
        "deploy:notify": ["cipipe run notify --env dev --force notify"],
        "deploy:default": ["cipipe run default --env dev"],
        "finish": ["cipipe run --env dev --if-newest --only-due"],
    }


def test_a_plan_that_was_limited_to_stages() -> None:
    """The last job is, too; what always runs has had its own job."""
    due = stage("iac", "terraform", Status.DUE)
    always = stage("notify", "command", Status.DUE, Reason.FORCED)
    jobs = rendered(plan(due, always), selected=("iac", "notify"))
    assert jobs["finish"]["script"] == ["cipipe run iac --env dev --if-newest"]
    jobs = rendered(plan(always), selected=("notify",))
    assert jobs["finish"]["script"] == ["cipipe run notify --env dev --if-newest"]


def test_a_merge_request_without_changes_has_a_job() -> None:
    assert list(rendered(plan(mode=Mode.VERIFY))) == ["nothing-due"]
    default = stage("default", "command", Status.DUE, Reason.NOTHING_DUE)
    assert list(rendered(plan(default, mode=Mode.VERIFY))) == ["verify:default"]


def test_a_job_waits_for_the_needs_of_an_unchanged_stage() -> None:
    jobs = rendered(
        plan(
            stage("a", "command", Status.DUE),
            stage("b", "command", Status.UNCHANGED, Reason.UNCHANGED, ("a",)),
            stage("c", "command", Status.UNCHANGED, Reason.UNCHANGED, ("a", "b")),
            stage("d", "command", Status.DUE, Reason.CHANGED, ("c", "a")),
        )
    )
    assert jobs["deploy:d"]["needs"] == ["deploy:a"]


def test_a_merge_request_deploys_nothing() -> None:
    (job,) = rendered(plan(stage("iac", "terraform", Status.DUE), mode=Mode.VERIFY)).values()
    assert job["stage"] == "verify"
    assert not {"environment", "resource_group"} & set(job)


def test_what_every_job_gets() -> None:
    text = gitlab.render(
        plan(stage("iac", "terraform", Status.DUE)),
        jobs={"image": "cipipe:1", "tags": ["docker"]},
        token_variable="T",
        audience="https://gl.example",
    )
    document = json.loads(text)
    assert document[".cipipe"] == {
        "image": "cipipe:1",
        "tags": ["docker"],
        "id_tokens": {"T": {"aud": "https://gl.example"}},
    }
    assert [document[name]["extends"] for name in ("deploy:iac", "finish")] == [".cipipe"] * 2
    assert "include" not in document


def test_keywords_of_jobs() -> None:
    assert gitlab.keywords(b'{"image": "a", "tags": []}') == {"image": "a", "tags": []}
    for text, message in {
        b"[]": "Expected `object`, got `array`",
        b"{": "Expecting property name",
        b'{"script": ["id"], "needs": []}': "a plan sets needs, script itself",
    }.items():
        with pytest.raises(ValueError, match=message):
            gitlab.keywords(text)


def test_hostile_names_stay_data() -> None:
    name = "x'; rm -rf / #\n$(id) \x85\u2028\U0001f600\"]"
    jobs = rendered(
        plan(stage(name, "image", Status.DUE), environment="dev$CI_JOB_TOKEN; id", project="p'\n"),
    )
    job, finish = jobs.values()
    assert job["script"] == [
        (
            "cipipe run 'x'\"'\"'; rm -rf / #\n$(id) \x85\u2028\U0001f600\"]' "
            "--env 'dev$CI_JOB_TOKEN; id'"
        )
    ]
    assert finish["script"] == ["cipipe run --env 'dev$CI_JOB_TOKEN; id' --if-newest --only-due"]
    assert job["environment"]["name"] == finish["environment"]["name"] == "dev-CI_JOB_TOKEN--id"


def test_stages_named_like_keywords() -> None:
    jobs = rendered(
        plan(
            *(
                stage(name, "command", Status.DUE)
                for name in ("image", "default", "pages", ".hidden")
            )
        )
    )
    assert list(jobs) == [
        "deploy:image",
        "deploy:default",
        "deploy:pages",
        "deploy:.hidden",
        "finish",
    ]
