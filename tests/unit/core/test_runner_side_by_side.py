"""Stages that run at the same time, and what an interrupt or a failure does to them."""

import threading
from typing import Any, NoReturn

import pytest

from cipipe.errors import InterruptedRun, RefusedError, StageError
from cipipe.model import Output, State
from cipipe.results import StageReport
from cipipe.stages.context import Action, StageContext, StageResult
from support.fakes import READ, WRITE, FakeStages, results

PATIENCE = 20


def meets(barrier: threading.Barrier) -> Action:
    """A step that waits until as many steps have started as the barrier is for."""

    def step(context: StageContext[Any], _: StageResult) -> None:
        barrier.wait(PATIENCE)

    return step


def fails(context: StageContext[Any], _: StageResult) -> NoReturn:
    raise StageError("tool-failed", "it broke")


def waits_for_the_interrupt(context: StageContext[Any], _: StageResult) -> None:
    context.interrupt.sleep(PATIENCE)
    raise AssertionError


def test_independent_stages_run_at_the_same_time() -> None:
    fake = FakeStages(a="", b="", c="a b", d="a")
    fake.jobs = 4
    first, second = meets(threading.Barrier(2)), meets(threading.Barrier(2))
    for name, step in {"a": first, "b": first, "c": second, "d": second}.items():
        fake.does(name, (WRITE, step))
    assert fake.deploy()[0] == dict.fromkeys("abcd", "done")
    assert [fake.state(name) for name in "abcd"] == ["deployed"] * 4


def test_no_more_stages_run_at_the_same_time_than_jobs_says() -> None:
    fake = FakeStages(a="", b="", c="")
    fake.jobs = 2
    now: list[str] = []
    most: list[int] = []

    def step(context: StageContext[Any], _: StageResult) -> None:
        now.append(context.stage.name)
        most.append(len(now))
        if len(most) <= 2:
            barrier.wait(PATIENCE)
        now.remove(context.stage.name)

    barrier = threading.Barrier(2)
    for name in "abc":
        fake.does(name, (WRITE, step))
    assert fake.deploy()[0] == dict.fromkeys("abc", "done")
    assert max(most) == 2


@pytest.mark.parametrize(
    ("jobs", "alone"),
    [
        (1, {"a": True, "b": True, "c": True, "d": True}),
        (4, {"a": True, "b": False, "c": False, "d": True}),
    ],
)
def test_a_stage_knows_whether_it_is_alone(jobs: int, alone: dict[str, bool]) -> None:
    fake = FakeStages(a="", b="a", c="a", d="b c")
    fake.jobs = jobs
    fake.deploy()
    assert fake.listener.alone == alone


def test_outputs_reach_the_stages_that_need_them_and_no_others() -> None:
    fake = FakeStages(a="", b="", c="a")
    fake.jobs = 4

    def make(context: StageContext[Any], result: StageResult) -> None:
        result.outputs = {"url": Output(value=context.stage.name)}

    for name in "ab":
        fake.does(name, (WRITE, make))
    fake.takes("c", "url")
    fake.deploy()
    assert fake.contexts["c"].stage.settings.env == {"X": "a"}


def test_a_failure_does_not_stop_stages_that_do_not_need_it() -> None:
    fake = FakeStages(a="", b="", c="a", d="b")
    fake.jobs = 4
    both = threading.Barrier(2)

    def fails_beside(context: StageContext[Any], result: StageResult) -> NoReturn:
        both.wait(PATIENCE)
        fails(context, result)

    fake.does("a", (WRITE, fails_beside))
    fake.does("b", (WRITE, meets(both)))
    made, runner = fake.deploy()
    assert made == {"a": "failed", "b": "done", "c": "not-run", "d": "done"}
    assert runner.error is not None
    assert runner.error.id == "tool-failed"


def test_an_interrupt_stops_every_running_stage_and_starts_no_other() -> None:
    fake = FakeStages(a="", b="", c="a", d="b")
    fake.jobs = 4
    both = threading.Barrier(3)
    for name in "ab":
        fake.does(name, (WRITE, meets(both)), (WRITE, waits_for_the_interrupt))
    runner = fake.runner()

    def press() -> None:
        both.wait(PATIENCE)
        runner.work.interrupt.trigger()

    threading.Thread(target=press).start()
    assert results(runner.deploy()) == {
        "a": "failed",
        "b": "failed",
        "c": "not-run",
        "d": "not-run",
    }
    assert isinstance(runner.error, InterruptedRun)
    assert sorted((runner.error.where or "").split(" and ")) == ["a", "b"]
    assert (fake.state("a"), fake.state("b"), fake.state("c")) == ("failed", "failed", None)


def test_an_interrupt_is_the_error_even_after_another_failure() -> None:
    fake = FakeStages(a="", b="")
    fake.jobs = 4
    after = threading.Event()

    def stop(context: StageContext[Any], _: StageResult) -> NoReturn:
        after.wait(PATIENCE)
        raise KeyboardInterrupt

    fake.does("a", (WRITE, fails))
    fake.does("b", (WRITE, stop))
    finished = fake.listener.stage_finished

    def and_set(report: StageReport) -> None:
        finished(report)
        after.set()

    fake.listener.stage_finished = and_set  # type: ignore[method-assign]
    assert fake.deploy()[1].error.exit_status == 130  # type: ignore[union-attr]


def test_an_interrupt_between_two_stages() -> None:
    fake = FakeStages(a="", b="a")
    runner = fake.runner()
    fake.does("a", (WRITE, lambda context, result: runner.work.interrupt.trigger()))
    assert results(runner.deploy()) == {"a": "done", "b": "not-run"}
    assert isinstance(runner.error, InterruptedRun)
    assert runner.error.where is None


def test_an_interrupt_that_comes_too_late_changes_nothing() -> None:
    fake = FakeStages(a="")
    runner = fake.runner()
    fake.does("a", (WRITE, lambda context, result: runner.work.interrupt.trigger()))
    assert results(runner.deploy()) == {"a": "done"}
    assert runner.error is None


def test_still_ours_checks_the_interrupt() -> None:
    fake = FakeStages(a="")

    def step(context: StageContext[Any], _: StageResult) -> None:
        context.interrupt.trigger()
        context.still_ours()
        raise AssertionError

    fake.does("a", (WRITE, step))
    made, runner = fake.deploy()
    assert made == {"a": "failed"}
    assert isinstance(runner.error, InterruptedRun)


def test_a_bug_in_one_stage_is_raised_when_the_others_have_finished() -> None:
    fake = FakeStages(a="", b="")
    fake.jobs = 4
    both = threading.Barrier(2)

    def bug(context: StageContext[Any], _: StageResult) -> NoReturn:
        both.wait(PATIENCE)
        raise ZeroDivisionError

    fake.does("a", (WRITE, bug))
    fake.does("b", (WRITE, meets(both)))
    with pytest.raises(ZeroDivisionError):
        fake.deploy()
    assert (fake.state("a"), fake.state("b")) == ("deploying", "deployed")


def test_an_unchanged_stage_in_the_middle_delays_nothing() -> None:
    fake = FakeStages(a="", b="a", c="b")
    fake.jobs = 4
    assert fake.deploy(b=State.DEPLOYED, a=State.DEPLOYED)[0] == {
        "a": "unchanged",
        "b": "unchanged",
        "c": "done",
    }


def test_each_stage_behind_a_skipped_one_warns_once() -> None:
    fake = FakeStages(a="", b="a", c="a", d="a")
    fake.jobs = 1
    fake.missing["docker"] = "install it"
    fake.tools["a"] = ("docker",)
    fake.deploy()
    assert len(fake.listener.warnings) == 3


def test_the_error_of_a_refusal_keeps_its_status() -> None:
    def refuses(context: StageContext[Any], _: StageResult) -> NoReturn:
        raise RefusedError("x", "no")

    fake = FakeStages(a="", b="")
    fake.jobs = 4
    fake.does("a", (READ, refuses))
    assert fake.deploy()[1].error.exit_status == 5  # type: ignore[union-attr]
