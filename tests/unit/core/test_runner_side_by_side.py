"""Which stages run at the same time, and what an interrupt or a failure of one does to the others."""

import threading
from typing import Any, NoReturn

import pytest

from cipipe.errors import InterruptedRun, RefusedError, StageError
from cipipe.model import Output, StageReport, State
from cipipe.stages.context import Action, StageContext, StageResult
from support.fakes import READ, WRITE, World, results

PATIENCE = 20


def meets(barrier: threading.Barrier) -> Action:
    """A step that ends only when as many others have begun as the barrier is for."""

    def step(context: StageContext[Any], _: StageResult) -> None:
        barrier.wait(PATIENCE)

    return step


def fails(context: StageContext[Any], _: StageResult) -> NoReturn:
    raise StageError("tool-failed", "it broke")


def waits_for_the_interrupt(context: StageContext[Any], _: StageResult) -> None:
    context.interrupt.sleep(PATIENCE)
    raise AssertionError


def test_what_needs_nothing_of_each_other_runs_at_the_same_time() -> None:
    world = World(a="", b="", c="a b", d="a")
    world.jobs = 4
    first, second = meets(threading.Barrier(2)), meets(threading.Barrier(2))
    for name, step in {"a": first, "b": first, "c": second, "d": second}.items():
        world.does(name, (WRITE, step))
    assert world.deploy()[0] == dict.fromkeys("abcd", "done")
    assert [world.state(name) for name in "abcd"] == ["deployed"] * 4


def test_no_more_at_the_same_time_than_asked_for() -> None:
    world = World(a="", b="", c="")
    world.jobs = 2
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
        world.does(name, (WRITE, step))
    assert world.deploy()[0] == dict.fromkeys("abc", "done")
    assert max(most) == 2


@pytest.mark.parametrize(
    ("jobs", "alone"),
    [
        (1, {"a": True, "b": True, "c": True, "d": True}),
        (4, {"a": True, "b": False, "c": False, "d": True}),
    ],
)
def test_a_stage_knows_whether_it_is_alone(jobs: int, alone: dict[str, bool]) -> None:
    world = World(a="", b="a", c="a", d="b c")
    world.jobs = jobs
    world.deploy()
    assert world.listener.alone == alone


def test_outputs_reach_the_stages_behind_and_no_others() -> None:
    world = World(a="", b="", c="a")
    world.jobs = 4

    def make(context: StageContext[Any], result: StageResult) -> None:
        result.outputs = {"url": Output(value=context.stage.name)}

    for name in "ab":
        world.does(name, (WRITE, make))
    world.takes("c", "url")
    world.deploy()
    assert world.contexts["c"].stage.settings.env == {"X": "a"}


def test_a_failure_leaves_those_alone_that_do_not_need_it() -> None:
    world = World(a="", b="", c="a", d="b")
    world.jobs = 4
    both = threading.Barrier(2)

    def fails_beside(context: StageContext[Any], result: StageResult) -> NoReturn:
        both.wait(PATIENCE)
        fails(context, result)

    world.does("a", (WRITE, fails_beside))
    world.does("b", (WRITE, meets(both)))
    made, runner = world.deploy()
    assert made == {"a": "failed", "b": "done", "c": "not-run", "d": "done"}
    assert runner.error is not None
    assert runner.error.id == "tool-failed"


def test_an_interrupt_ends_all_that_run_and_starts_nothing_more() -> None:
    world = World(a="", b="", c="a", d="b")
    world.jobs = 4
    both = threading.Barrier(3)
    for name in "ab":
        world.does(name, (WRITE, meets(both)), (WRITE, waits_for_the_interrupt))
    runner = world.runner()

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
    assert (world.state("a"), world.state("b"), world.state("c")) == ("failed", "failed", None)


def test_an_interrupt_is_the_error_even_after_another_failure() -> None:
    world = World(a="", b="")
    world.jobs = 4
    after = threading.Event()

    def stop(context: StageContext[Any], _: StageResult) -> NoReturn:
        after.wait(PATIENCE)
        raise KeyboardInterrupt

    world.does("a", (WRITE, fails))
    world.does("b", (WRITE, stop))
    ends = world.listener.stage_finished

    def told(report: StageReport) -> None:
        ends(report)
        after.set()

    world.listener.stage_finished = told  # type: ignore[method-assign]
    assert world.deploy()[1].error.exit_status == 130  # type: ignore[union-attr]


def test_an_interrupt_between_two_stages() -> None:
    world = World(a="", b="a")
    runner = world.runner()
    world.does("a", (WRITE, lambda context, result: runner.work.interrupt.trigger()))
    assert results(runner.deploy()) == {"a": "done", "b": "not-run"}
    assert isinstance(runner.error, InterruptedRun)
    assert runner.error.where is None


def test_an_interrupt_that_comes_too_late_changes_nothing() -> None:
    world = World(a="")
    runner = world.runner()
    world.does("a", (WRITE, lambda context, result: runner.work.interrupt.trigger()))
    assert results(runner.deploy()) == {"a": "done"}
    assert runner.error is None


def test_before_each_unconditional_write_the_interrupt_is_asked() -> None:
    world = World(a="")

    def step(context: StageContext[Any], _: StageResult) -> None:
        context.interrupt.trigger()
        context.still_ours()
        raise AssertionError

    world.does("a", (WRITE, step))
    made, runner = world.deploy()
    assert made == {"a": "failed"}
    assert isinstance(runner.error, InterruptedRun)


def test_a_bug_in_one_is_told_when_the_others_have_ended() -> None:
    world = World(a="", b="")
    world.jobs = 4
    both = threading.Barrier(2)

    def bug(context: StageContext[Any], _: StageResult) -> NoReturn:
        both.wait(PATIENCE)
        raise ZeroDivisionError

    world.does("a", (WRITE, bug))
    world.does("b", (WRITE, meets(both)))
    with pytest.raises(ZeroDivisionError):
        world.deploy()
    assert (world.state("a"), world.state("b")) == ("deploying", "deployed")


def test_an_unchanged_stage_in_the_middle_holds_nothing_up() -> None:
    world = World(a="", b="a", c="b")
    world.jobs = 4
    assert world.deploy(b=State.DEPLOYED, a=State.DEPLOYED)[0] == {
        "a": "unchanged",
        "b": "unchanged",
        "c": "done",
    }


def test_a_skipped_stage_is_warned_of_once() -> None:
    world = World(a="", b="a", c="a", d="a")
    world.jobs = 1
    world.missing["docker"] = "install it"
    world.tools["a"] = ("docker",)
    world.deploy()
    assert len(world.listener.warnings) == 3


def test_the_error_of_a_refusal_keeps_its_status() -> None:
    def refuses(context: StageContext[Any], _: StageResult) -> NoReturn:
        raise RefusedError("x", "no")

    world = World(a="", b="")
    world.jobs = 4
    world.does("a", (READ, refuses))
    assert world.deploy()[1].error.exit_status == 5  # type: ignore[union-attr]
