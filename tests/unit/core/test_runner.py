"""A run: what is written to the ledger and when, and what happens after a failure."""

from collections.abc import Callable
from typing import Any, NoReturn

import msgspec
import pytest

from cipipe.errors import ConflictError, InterruptedRun, RefusedError, StageError
from cipipe.fingerprint import effective
from cipipe.model import Mode, Output, State, Status
from cipipe.outputs import produced_secret
from cipipe.planner import ExecutablePlan
from cipipe.stages.context import Action, StageContext, StageResult, Step
from support.fakes import READ, WRITE, FakeStages, results


def fails(context: StageContext[Any], _: StageResult) -> NoReturn:
    raise StageError("tool-failed", "it broke: s3cret\nsecond line")


def interrupts(context: StageContext[Any], _: StageResult) -> NoReturn:
    raise KeyboardInterrupt


def test_deploying_comes_before_the_first_effect_and_deployed_after_the_last() -> None:
    fake = FakeStages(a="")
    fake.does("a", READ, READ, WRITE, READ, WRITE)
    assert fake.deploy()[0] == {"a": "done"}
    assert fake.bucket.log == [
        "a: read",
        "a: read",
        "a: deploying",
        "a: write",
        "a: read",
        "a: write",
        "a: deployed",
    ]
    record = fake.record("a")
    assert (record.fingerprint, record.commit, record.ref) == (
        fake.candidates["a"].fingerprint,
        "c" * 40,
        "main",
    )
    assert (record.provider, record.sequence, record.pipeline_url) == ("gitlab", 9, "https://ci/9")
    assert record.effective == effective(record.fingerprint, {})
    assert record.started_at <= (record.finished_at or "")


def test_a_stage_that_only_reads_is_recorded_at_its_end() -> None:
    fake = FakeStages(a="")
    fake.does("a", READ)
    fake.deploy()
    assert fake.bucket.log == ["a: read", "a: deployed"]


def test_data_starts_as_in_the_last_record_and_is_recorded_as_the_steps_left_it() -> None:
    fake = FakeStages(a="")
    seen = []

    def write(context: StageContext[Any], result: StageResult) -> None:
        seen.append((dict(result.data), dict(fake.record("a").data)))
        result.data["new"] = 2

    fake.does("a", (WRITE, write))
    fake.deploy(a="0" * 64)
    assert seen == [({"kept": 1}, {"kept": 1})]
    assert fake.record("a").data == {"kept": 1, "new": 2}


def test_a_failure_records_the_data_of_the_steps_before_it() -> None:
    fake = FakeStages(a="")

    def rebinds(context: StageContext[Any], result: StageResult) -> None:
        result.data = {**result.data, "deleted": ["x"]}

    fake.does("a", (WRITE, rebinds), (WRITE, fails))
    fake.deploy(a="0" * 64)
    assert (fake.record("a").state, fake.record("a").data) == (
        State.FAILED,
        {"kept": 1, "deleted": ["x"]},
    )


@pytest.mark.parametrize(
    ("step", "log"), [(READ, ["a: read"]), (WRITE, ["a: deploying", "a: write", "a: failed"])]
)
def test_a_failure_is_recorded_if_a_write_was_started(step: object, log: list[str]) -> None:
    fake = FakeStages(a="")
    fake.does("a", (step, fails))  # type: ignore[arg-type]
    made, runner = fake.deploy()
    assert (made, fake.bucket.log) == ({"a": "failed"}, log)
    assert runner.error is not None
    assert runner.error.exit_status == 4
    assert runner.report().failed


def test_the_reason_of_a_failure_is_one_masked_line() -> None:
    fake = FakeStages(a="")
    fake.redactor.register("s3cret")
    fake.does("a", (WRITE, fails))
    assert fake.runner().deploy().stages[0].detail == "it broke: [redacted]"


def test_a_failed_read_leaves_the_record_of_another_run_alone() -> None:
    """The record says `deploying`: another run may be at work right now."""
    fake = FakeStages(a="")
    fake.does("a", (READ, fails), WRITE)
    before = fake.deploy(a=State.DEPLOYING)
    assert before[0] == {"a": "failed"}
    assert fake.bucket.log == ["a: read"]
    assert fake.record("a").pipeline_url == "https://ci/8"


def test_what_needs_a_failed_stage_does_not_run_and_the_rest_does() -> None:
    fake = FakeStages(a="", b="a", c="b", d="")
    fake.does("a", (WRITE, fails))
    assert fake.deploy()[0] == {"a": "failed", "b": "not-run", "c": "not-run", "d": "done"}
    assert (fake.state("b"), fake.state("d")) == (None, "deployed")
    assert fake.listener.started == ["a", "d"]
    assert fake.listener.finished == ["a failed", "b not-run", "c not-run", "d done"]


@pytest.mark.parametrize(
    ("step", "log"), [(READ, ["a: read"]), (WRITE, ["a: deploying", "a: write", "a: failed"])]
)
def test_an_interrupt_stops_the_run(step: object, log: list[str]) -> None:
    fake = FakeStages(a="", b="")
    fake.does("a", (step, interrupts))  # type: ignore[arg-type]
    runner = fake.runner()
    report = runner.deploy()
    assert isinstance(runner.error, InterruptedRun)
    assert (runner.error.exit_status, runner.error.where) == (130, "a")
    assert fake.bucket.log == log
    assert results(report) == {"a": "failed", "b": "not-run"}


def test_a_bug_leaves_deploying_which_makes_the_stage_due() -> None:
    def bug(context: StageContext[Any], _: StageResult) -> NoReturn:
        raise ZeroDivisionError

    fake = FakeStages(a="")
    fake.does("a", (WRITE, bug))
    with pytest.raises(ZeroDivisionError):
        fake.deploy()
    assert fake.state("a") == "deploying"


def test_unchanged_does_nothing() -> None:
    fake = FakeStages(a="")
    made, _ = fake.deploy(a=State.DEPLOYED)
    assert (made, fake.bucket.log, fake.listener.started) == ({"a": "unchanged"}, [], [])


def overwrite(fake: FakeStages, at: str) -> Callable[[str], None]:
    """Another run writes the record right before this one writes it with that state."""
    turns = iter([at == "deploying", at == "deployed"])

    def before(key: str) -> None:
        if key == "p/a.json" and next(turns, False):
            fake._record("a", State.DEPLOYING)

    return before


def test_a_conflict_before_anything_was_written() -> None:
    fake = FakeStages(a="", b="a")
    fake.bucket.before_put = overwrite(fake, "deploying")
    made, runner = fake.deploy()
    assert made == {"a": "failed", "b": "not-run"}
    assert "a: write" not in fake.bucket.log
    assert isinstance(runner.error, ConflictError)
    assert "https://ci/8" in runner.error.message
    assert "2026" in runner.error.message


def test_a_conflict_at_the_end_leaves_the_record_of_the_other_run() -> None:
    fake = FakeStages(a="")
    fake.bucket.before_put = overwrite(fake, "deployed")
    made, runner = fake.deploy()
    assert made == {"a": "failed"}
    assert isinstance(runner.error, ConflictError)
    assert fake.record("a").pipeline_url == "https://ci/8"
    assert len(fake.listener.warnings) == 1


def test_the_first_error_counts() -> None:
    def refuses(context: StageContext[Any], _: StageResult) -> NoReturn:
        raise RefusedError("x", "no")

    fake = FakeStages(a="", b="")
    fake.does("a", (WRITE, refuses))
    fake.does("b", (WRITE, fails))
    assert fake.deploy()[1].error.exit_status == 5  # type: ignore[union-attr]


def test_verify_writes_nothing_to_the_ledger() -> None:
    fake = FakeStages(mode=Mode.VERIFY, a="")
    fake.does("a", READ)
    assert fake.deploy()[0] == {"a": "done"}
    assert fake.bucket.log == ["a: read"]


@pytest.mark.parametrize("when", ["always", "nothing-due"])
def test_only_stages_that_can_be_due_are_recorded(when: str) -> None:
    fake = FakeStages(a="")
    candidate = fake.candidates["a"]
    stage = msgspec.structs.replace(candidate.stage, when=when)
    fake.candidates["a"] = msgspec.structs.replace(candidate, stage=stage)
    assert fake.deploy()[0] == {"a": "done"}
    assert fake.bucket.log == ["a: read", "a: write"]


def makes(**outputs: Output) -> Action:
    def make(context: StageContext[Any], result: StageResult) -> None:
        result.outputs = outputs

    return make


def test_outputs_are_stored_before_the_stage_is_deployed_and_reach_the_next_one() -> None:
    fake = FakeStages(a="", b="a")
    fake.does(
        "a", (WRITE, makes(url=Output(value="here"), key=Output(value="s3cret", sensitive=True)))
    )
    fake.takes("b", "url")
    fake.deploy()
    assert fake.bucket.log[:4] == ["a: deploying", "a: write", "a.outputs", "a: deployed"]
    assert b"s3cret" not in fake.bucket.objects["p/a.outputs.json"]
    assert fake.contexts["b"].stage.settings.env == {"X": "here"}
    assert fake.record("b").effective == effective(fake.record("b").fingerprint, {"url": "here"})


@pytest.mark.parametrize(("value", "result"), [("same", "unchanged"), ("other", "done")])
def test_a_conditional_stage_runs_only_if_its_inputs_changed(value: str, result: str) -> None:
    fake = FakeStages(a="", b="a")
    fake.does("a", (WRITE, makes(url=Output(value="same"))))
    fake.takes("b", "url")
    fake.deploy()
    fake.bucket.log.clear()
    fake.does("a", (WRITE, makes(url=Output(value=value))))
    assert fake.deploy(a="0" * 64)[0] == {"a": "done", "b": result}
    assert ("b: write" in fake.bucket.log) is (result == "done")


def test_a_sensitive_output_is_masked_before_the_stage_that_needs_it_starts() -> None:
    fake = FakeStages(a="", b="a")
    fake.outputs["a"] = {"keys": Output(value=["hunter22", {"more": "hunter33"}], sensitive=True)}
    seen: list[str] = []
    fake.does(
        "b",
        (READ, lambda context, result: seen.append(context.redactor.text("hunter22 and hunter33"))),
    )
    fake.deploy(a=State.DEPLOYED)
    assert len(seen) == 1
    assert "hunter" not in seen[0]


@pytest.mark.parametrize(
    ("outputs", "id"),
    [
        ({}, "output-unknown"),
        ({"url": Output(value=["x"])}, "output-unusable"),
        ({"url": Output(sensitive=True)}, "output-unusable"),
        ({"url": Output(value=None)}, "output-unusable"),
    ],
)
def test_an_output_that_cannot_be_used(outputs: dict[str, Output], id: str) -> None:
    fake = FakeStages(a="", b="a")
    fake.outputs["a"] = outputs
    fake.takes("b", "url")
    made, runner = fake.deploy(a=State.DEPLOYED)
    assert made == {"a": "unchanged", "b": "failed"}
    assert runner.error is not None
    assert (runner.error.id, runner.error.where) == (id, "stages.b")
    assert fake.bucket.log == []


def test_a_sensitive_output_that_was_produced_anew_is_not_taken_for_the_same() -> None:
    """No digest has its value."""
    outputs = {"key": Output(type="string", value="secret-value", sensitive=True)}
    known = {"key": Output(type="string", sensitive=True)}
    assert produced_secret(outputs, ["key"])
    assert not produced_secret(known, ["key"])
    assert not produced_secret(outputs, ["another"])
    assert not produced_secret({"key": Output(value="public")}, ["key"])


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), (7, "7"), (2.5, "2.5"), (True, "true"), (False, "false"), ("", "")],
)
def test_an_output_becomes_text_as_terraform_writes_it(value: object, text: str) -> None:
    fake = FakeStages(a="", b="a")
    fake.outputs["a"] = {"url": Output(value=value)}
    fake.takes("b", "url")
    fake.deploy(a=State.DEPLOYED)
    assert fake.contexts["b"].stage.settings.env == {"X": text}


def test_a_stage_whose_tool_is_missing_is_skipped_and_never_done() -> None:
    fake = FakeStages(a="", b="a", c="b")
    fake.missing["docker"] = "install it"
    fake.tools["a"] = ("docker",)
    fake.takes("b", "url")
    made, runner = fake.deploy()
    assert made == {"a": "skipped", "b": "skipped", "c": "done"}
    assert runner.report().stages[0].detail == "docker is not available here"
    assert fake.state("a") is None
    assert fake.listener.warnings == [
        "stage b runs although a was skipped (sandbox)",
        "stage c runs although b was skipped (sandbox)",
    ]


def test_settings_and_titles_are_filled_in() -> None:
    fake = FakeStages(a="", b="a")
    fake.outputs["a"] = {
        "url": Output(value="here"),
        "key": Output(value="s3cret", sensitive=True),
    }
    fake.takes("b", "url")
    (step,) = fake.steps["b"][:1]
    fake.steps["b"] = (Step("push {url}, {urls}, {key}", step.effect, step.run),)
    stage = fake.candidates["b"].stage
    settings = msgspec.structs.replace(stage.settings, run=(("echo", "{environment}"),))
    changed = msgspec.structs.replace(stage, settings=settings)
    fake.candidates["b"] = msgspec.structs.replace(
        fake.candidates["b"], stage=changed, fingerprint="f" * 64
    )
    fake.deploy(a=State.DEPLOYED)
    assert fake.listener.titles[-1] == "b: push here, {urls}, {key}"
    assert fake.contexts["b"].stage.settings.run == (("echo", "dev"),)


def test_a_stage_that_finds_nothing_to_write_leaves_its_record_alone() -> None:
    def find_nothing(context: StageContext[Any], result: StageResult) -> None:
        result.up_to_date = True

    fake = FakeStages(a="")
    fake.does("a", (READ, find_nothing), WRITE)
    runner = fake.runner(a=State.DEPLOYED)
    stage = runner.work.executable.plan.stages[0]
    forced = msgspec.structs.replace(stage, status=Status.DUE)
    runner.work.executable = ExecutablePlan(
        msgspec.structs.replace(runner.work.executable.plan, stages=(forced,)), fake.steps
    )
    runner.work.restored = {"a": "e" * 64}
    assert results(runner.deploy()) == {"a": "unchanged"}
    assert fake.bucket.log == ["a: read"]
    # With other inputs than those of the record, it is written again.
    runner.work.restored = {"a": "f" * 64}
    runner.deploy()
    assert fake.bucket.log == ["a: read", "a: read", "a: deploying", "a: write", "a: deployed"]
