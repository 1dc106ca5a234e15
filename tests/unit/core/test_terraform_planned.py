"""Planned outputs on their way from one stage to the next, in verify mode."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from cipipe import outputs
from cipipe.errors import StageError
from cipipe.fingerprint import effective
from cipipe.model import Effect, Mode, Output, Review, State
from cipipe.stages import KINDS
from cipipe.stages.context import Action, StageContext, StageResult
from cipipe.stages.settings import Reference, Stage
from cipipe.stages.terraform.changes.reviewing import warn_unplanned
from cipipe.stages.terraform.planned_outputs import is_waiting, keep_planned, planned
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.tools.terraform.shown import ShownPlan
from support.contexts import stage_context
from support.fakes import READ, FakeStages, results

SECRET = "correct-horse"


def shown(**values: dict[str, Any]) -> ShownPlan:
    return msgspec.convert({"planned_values": {"outputs": values}}, ShownPlan)


def test_known_unknown_sensitive_and_null() -> None:
    plan = shown(
        known={"value": ["a"], "type": ["list", "string"]},
        unknown={},
        secret={"value": SECRET, "type": "string", "sensitive": True},
        hidden={"sensitive": True},
        null={"value": None, "type": "dynamic"},
    )
    assert planned(plan, {"unknown": "string"}) == {
        "known": Output(type=["list", "string"], value=["a"]),
        "unknown": Output(type="string", unknown=True),
        "secret": Output(type="string", value=SECRET, sensitive=True),
        "hidden": Output(sensitive=True, unknown=True),
    }


@pytest.mark.parametrize("mode", Mode)
def test_outputs_of_a_plan_are_for_verify_mode(mode: Mode, tmp_path: Path) -> None:
    result = StageResult()
    keep_planned(stage_context(mode=mode), result, shown(id={}), tmp_path / "no-plan")
    expected = {"id": Output(unknown=True)} if mode is Mode.VERIFY else None
    assert result.outputs == expected


def test_nothing_is_planned_with_a_variable_that_is_not_known() -> None:
    settings = TerraformSettings(
        root="terraform", variables={"vpc_id": Reference(output="vpc"), "name": "x"}
    )
    lines: list[str] = []
    context = stage_context(
        mode=Mode.VERIFY,
        stage=Stage("apps", "terraform", settings),
        line=lines.append,
        outputs={"vpc": Output(type="string", unknown=True)},
    )

    class Applied:
        def outputs(self) -> dict[str, dict[str, Any]]:
            return {"url": {"type": "string", "value": "https://old"}}

    result = StageResult()
    terraform: Any = Applied()
    assert is_waiting(context, result, terraform)
    assert result.summary == "depends on values known after apply: vpc"
    assert lines[-1] == "vpc: string, known after apply"
    # Not what is deployed: the same apply may change it.
    assert result.outputs == {"url": Output(type="string", unknown=True)}


def test_the_next_stage_sees_what_was_planned_and_the_ledger_never_does() -> None:
    fake = FakeStages(mode=Mode.VERIFY, a="", b="a")
    seen: list[dict[str, Output]] = []

    def plans(_: StageContext[Any], result: StageResult) -> None:
        result.outputs = {"name": Output(value="new"), "id": Output(type="string", unknown=True)}

    def looks(context: StageContext[Any], _: StageResult) -> None:
        seen.append(dict(context.outputs))

    fake.does("a", (READ, plans))
    fake.does("b", (READ, looks))
    made, _ = fake.deploy()
    assert made == {"a": "done", "b": "done"}
    assert {name: output.unknown for name, output in seen[0].items()} == {"name": False, "id": True}
    assert (fake.bucket.log, fake.bucket.objects) == (["a: read", "b: read"], {})


def gives(outputs: dict[str, Output] | None, *, more: bool = False) -> tuple[Effect, Action]:
    def does(_: StageContext[Any], result: StageResult) -> None:
        result.outputs = outputs
        result.more_outputs = more

    return READ, does


@pytest.mark.parametrize(
    ("step", "complete"),
    [(gives({}), True), (gives({}, more=True), False), (gives(None), False)],
)
def test_outputs_are_complete_if_they_were_planned(
    step: tuple[Effect, Action], complete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KINDS["command"], "GIVES_OUTPUTS", True)
    fake = FakeStages(mode=Mode.VERIFY, a="", b="a")
    fake.does("a", step)
    fake.does("b", READ)
    fake.deploy()
    assert fake.contexts["b"].outputs_complete is complete


def test_outputs_of_a_stage_that_was_not_deployed() -> None:
    with pytest.raises(StageError) as caught:
        outputs.value("vpc", {}, stage="apps")
    assert caught.value.hint is not None
    assert "deploy them first" in caught.value.hint


def test_outputs_of_a_stage_that_stays_as_it_is_are_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(KINDS["command"], "GIVES_OUTPUTS", True)
    fake = FakeStages(mode=Mode.VERIFY, a="", b="a")
    fake.does("a", READ)
    fake.does("b", READ)
    fake.deploy(a=State.DEPLOYED)
    assert fake.contexts["b"].outputs_complete


@pytest.mark.parametrize("complete", [True, False])
def test_a_setting_needs_an_output_that_there_is(
    complete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KINDS["command"], "GIVES_OUTPUTS", True)
    fake = FakeStages(mode=Mode.VERIFY, a="", b="a")
    fake.does("a", gives({"url": Output(value="x")}, more=not complete))
    fake.does("b", READ)
    fake.takes("b", "uri")
    made, runner = fake.deploy()
    assert made["b"] == ("failed" if complete else "done")
    assert (runner.error.id if runner.error else None) == ("output-unknown" if complete else None)


@pytest.mark.parametrize(
    ("output", "usable"),
    [
        (Output(type="string", unknown=True), True),
        (Output(type="number", unknown=True), True),
        (Output(unknown=True), True),
        (Output(type=["list", "string"], unknown=True), False),
        (Output(type="string", sensitive=True, unknown=True), False),
    ],
)
def test_a_setting_that_is_not_known_has_to_fit_all_the_same(output: Output, usable: bool) -> None:
    if usable:
        outputs.refuse_unusable("bucket", output, stage="dags")
        return
    with pytest.raises(StageError) as caught:
        outputs.refuse_unusable("bucket", output, stage="dags")
    assert caught.value.id == "output-unusable"


@pytest.mark.parametrize(
    ("output", "result"),
    [
        (Output(value="same"), "unchanged"),
        (Output(value="other"), "done"),
        (Output(type="string", unknown=True), "done"),
    ],
)
def test_a_conditional_stage_runs_unless_its_inputs_are_known_to_be_the_same(
    output: Output, result: str
) -> None:
    fake = FakeStages(mode=Mode.VERIFY, a="", b="a")
    fake.takes("b", "x")

    def plans(_: StageContext[Any], produced: StageResult) -> None:
        produced.outputs = {"x": output}

    fake.does("a", (READ, plans))
    fake.does("b", READ)
    runner = fake.runner(a="0" * 64, b=State.DEPLOYED)
    same = effective(fake.candidates["b"].fingerprint, {"x": "same"})
    record = msgspec.structs.replace(fake.record("b"), effective=same)
    fake.bucket.objects["p/b.json"] = msgspec.json.encode(record)
    runner = fake.runner()
    assert results(runner.deploy()) == {"a": "done", "b": result}


@pytest.mark.parametrize("policy", list(Review))
def test_a_plan_that_cannot_be_reviewed_yet_says_what_follows(policy: Review) -> None:
    lines: list[str] = []
    reviews: Any = SimpleNamespace(policy=policy)
    warn_unplanned(stage_context(mode=Mode.VERIFY, line=lines.append, reviews=reviews))
    assert ["refused" in line for line in lines] == ([True] if policy is Review.REQUIRED else [])
