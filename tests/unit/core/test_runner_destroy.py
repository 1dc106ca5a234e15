"""Destroying: inspect everything first, then destroy it in the order of the plan."""

from typing import Any, NoReturn

import msgspec

from cipipe.errors import BlockedError, Problem, RefusedError, StageError
from cipipe.model import Mode, Plan, Reason, State, Status
from cipipe.planner import ExecutablePlan
from cipipe.results import Loss
from cipipe.runner import Runner
from cipipe.stages.context import StageContext, StageResult
from support.fakes import DESTROY, READ, FakeStages, results


def refuses(context: StageContext[Any], _: StageResult) -> NoReturn:
    raise RefusedError("destroy-foreign-images", "not ours")


def fails(context: StageContext[Any], _: StageResult) -> NoReturn:
    raise StageError("tool-failed", "it broke")


def finds_nothing_wrong(_: StageContext[Any], result: StageResult) -> None:
    result.summary = "2 destroyed"
    result.preflight.lost.append(Loss(sort="resource", name="aws_s3_bucket", count=2))


def finds(context: StageContext[Any], result: StageResult) -> None:
    finds_nothing_wrong(context, result)
    result.preflight.blockers.append(
        Problem("destroy-own-state", "it keeps the ledger", "aws_s3_bucket.it")
    )


def to_destroy(fake: FakeStages, **known: State) -> Runner:
    """A runner that destroys in reverse order. A stage without a record is unchanged."""
    for name in fake.steps:
        fake.does(name, READ, DESTROY)
    runner = fake.runner(**known)
    stages = [
        msgspec.structs.replace(
            stage,
            status=Status.DUE if stage.name in known else Status.UNCHANGED,
            reason=Reason.FORCED,
        )
        for stage in reversed(runner.work.executable.plan.stages)
    ]
    plan: Plan = msgspec.structs.replace(
        runner.work.executable.plan, mode=Mode.DESTROY, stages=tuple(stages)
    )
    runner.work.executable = ExecutablePlan(plan, fake.steps)
    return runner


def test_everything_is_inspected_before_anything_is_deleted() -> None:
    fake = FakeStages(mode=Mode.DESTROY, a="", b="a", c="")
    runner = to_destroy(fake, a=State.DEPLOYED, b=State.FAILED)
    runner.inspect()
    assert results(runner.destroy()) == {"c": "unchanged", "b": "done", "a": "done"}
    assert fake.bucket.log == [
        *("b: read", "a: read"),
        *("b: deploying", "b: destroy", "b: destroyed"),
        *("a: deploying", "a: destroy", "a: destroyed"),
    ]
    assert fake.record("a").data == {}
    assert fake.record("a").effective is None


def test_a_refusal_of_the_inspection_deletes_nothing() -> None:
    fake = FakeStages(mode=Mode.DESTROY, a="", b="a")
    runner = to_destroy(fake, a=State.DEPLOYED, b=State.DEPLOYED)
    fake.does("a", (READ, refuses), DESTROY)
    report = runner.inspect()
    assert isinstance(runner.error, RefusedError)
    assert runner.error.id == "destroy-foreign-images"
    assert results(report) == {"b": "not-run", "a": "not-run"}
    assert fake.bucket.log == ["b: read", "a: read"]
    assert (fake.state("a"), fake.state("b")) == ("deployed", "deployed")


def test_a_failure_keeps_the_stages_that_the_failed_one_needs() -> None:
    fake = FakeStages(mode=Mode.DESTROY, a="", b="a")
    runner = to_destroy(fake, a=State.DEPLOYED, b=State.DEPLOYED)
    fake.does("b", READ, (DESTROY, fails))
    runner.inspect()
    assert results(runner.destroy()) == {"b": "failed", "a": "not-run"}
    assert (fake.state("a"), fake.state("b")) == ("deployed", "failed")
    assert runner.error is not None


def test_the_refusals_of_all_stages_are_reported_at_once() -> None:
    fake = FakeStages(mode=Mode.DESTROY, a="", b="a", c="a")
    runner = to_destroy(fake, a=State.DEPLOYED, b=State.DEPLOYED, c=State.DEPLOYED)
    fake.does("a", (READ, finds), READ, DESTROY)
    fake.does("c", (READ, refuses), DESTROY)
    report = runner.inspect()
    assert isinstance(runner.error, BlockedError)
    assert [(one.id, one.where) for one in runner.error.problems] == [
        ("destroy-foreign-images", "c"),
        ("destroy-own-state", "aws_s3_bucket.it"),
    ]
    assert fake.bucket.log == ["c: read", "b: read", "a: read", "a: read"]
    (found,) = [stage.findings["destroy"] for stage in report.stages if stage.name == "a"]
    assert found["lost"][0]["name"] == "aws_s3_bucket"
    assert [one["id"] for one in found["blockers"]] == ["destroy-own-state"]


def test_what_a_stage_removes_is_known_to_those_after_it() -> None:
    fake = FakeStages(mode=Mode.DESTROY, a="", b="a")
    runner = to_destroy(fake, a=State.DEPLOYED, b=State.DEPLOYED)
    fake.does("b", (READ, lambda _, result: result.preflight.removes.add("host/name:tag")), DESTROY)
    runner.inspect()
    assert fake.contexts["a"].removed() == {"host/name:tag"}


def test_what_was_found_out_about_a_stage_that_fails_is_reported() -> None:
    fake = FakeStages(mode=Mode.DESTROY, a="")
    runner = to_destroy(fake, a=State.DEPLOYED)
    fake.does("a", (READ, finds_nothing_wrong), (DESTROY, fails))
    runner.inspect()
    (stage,) = runner.destroy().stages
    assert (stage.result.value, stage.made) == ("failed", "")
    assert stage.findings["destroy"]["lost"][0]["count"] == 2
