"""Destroying: inspect everything first, then destroy it in the order of the plan."""

from typing import Any, NoReturn

import msgspec
import pytest

from cipipe.errors import RefusedError, StageError
from cipipe.model import Mode, Plan, Reason, State, Status
from cipipe.planner import ExecutablePlan
from cipipe.runner import Runner
from cipipe.stages.context import StageContext, StageResult
from support.fakes import DESTROY, READ, FakeStages, results


def refuses(context: StageContext[Any], _: StageResult) -> NoReturn:
    raise RefusedError("destroy-foreign-images", "not ours")


def fails(context: StageContext[Any], _: StageResult) -> NoReturn:
    raise StageError("tool-failed", "it broke")


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
    with pytest.raises(RefusedError):
        runner.destroy()
    assert fake.bucket.log == ["b: read", "a: read"]
    assert (fake.state("a"), fake.state("b")) == ("deployed", "deployed")


def test_a_failure_keeps_the_stages_that_the_failed_one_needs() -> None:
    fake = FakeStages(mode=Mode.DESTROY, a="", b="a")
    runner = to_destroy(fake, a=State.DEPLOYED, b=State.DEPLOYED)
    fake.does("b", READ, (DESTROY, fails))
    assert results(runner.destroy()) == {"b": "failed", "a": "not-run"}
    assert (fake.state("a"), fake.state("b")) == ("deployed", "failed")
    assert runner.error is not None
