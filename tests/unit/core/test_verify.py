"""Merge and pull requests: every kind of stage only reads."""

import msgspec
import pytest

from cipipe import planner
from cipipe.candidates import make_candidates
from cipipe.model import Baseline, Effect, Mode
from cipipe.planner import Question
from cipipe.stages import KINDS
from cipipe.stages.context import Step
from cipipe.stages.settings import AnyStage
from support.configurations import DAGS, HEAD, IAC, IMAGE, command, load

SMOKE = (
    IMAGE
    + 'smoke = ["dbt", "parse"]\ntags = ["latest"]\nsbom = true\n'
    + 'dbt = { build = { target = "ci", defer = { target = "live" } } }\n'
)
STAGES = load(HEAD + IAC + SMOKE + DAGS + command("command")).stages
# Kinds that leave nothing behind for `destroy` to delete.
DESTROYS_NOTHING = {"command"}
OF_EACH_KIND = {stage.kind: stage for stage in STAGES.values()}


def test_there_is_a_stage_of_every_kind_here() -> None:
    assert set(OF_EACH_KIND) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_verify_only_reads(kind: str) -> None:
    steps = KINDS[kind].steps(OF_EACH_KIND[kind], Mode.VERIFY, tag="0" * 20)
    assert {step.effect for step in steps} <= {Effect.READ}


@pytest.mark.parametrize("kind", KINDS)
def test_verify_records_at_most_what_it_showed(kind: str) -> None:
    reviewed = msgspec.structs.replace(OF_EACH_KIND[kind], reviewed=True)
    effects = [step.effect for step in KINDS[kind].steps(reviewed, Mode.VERIFY, tag="0" * 20)]
    # As the last step: a plan that fails was not shown.
    assert set(effects[:-1]) <= {Effect.READ}
    expected = {"terraform": [Effect.REVIEW], "command": []}
    assert effects[-1:] == expected.get(kind, [Effect.READ])


@pytest.mark.parametrize("kind", KINDS)
def test_deploy_writes_and_destroys_nothing(kind: str) -> None:
    effects = [
        step.effect for step in KINDS[kind].steps(OF_EACH_KIND[kind], Mode.DEPLOY, tag="0" * 20)
    ]
    assert Effect.WRITE in effects
    assert Effect.DESTROY not in effects


@pytest.mark.parametrize("kind", sorted(set(KINDS) - DESTROYS_NOTHING))
def test_destroy_looks_before_it_deletes(kind: str) -> None:
    effects = [
        step.effect for step in KINDS[kind].steps(OF_EACH_KIND[kind], Mode.DESTROY, tag="0" * 20)
    ]
    assert effects[0] is Effect.READ
    assert Effect.DESTROY in effects
    assert Effect.WRITE not in effects


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("kind", KINDS)
def test_titles_are_single_lines_and_steps_are_made_anew(kind: str, mode: Mode) -> None:
    one, other = (KINDS[kind].steps(OF_EACH_KIND[kind], mode, tag="0" * 20) for _ in range(2))
    assert [step.title for step in one] == [step.title for step in other]
    assert all(step.title.strip() and "\n" not in step.title for step in one)


def test_a_kind_that_would_write_is_stopped_in_the_planner(monkeypatch: pytest.MonkeyPatch) -> None:
    def writes(stage: AnyStage, mode: Mode, *, tag: str) -> tuple[Step, ...]:
        return (Step("write", Effect.WRITE, lambda *_: None),)

    monkeypatch.setattr(KINDS["command"], "steps", writes)
    config = load(HEAD + command("a"))
    candidates = make_candidates(config, {"a": [b"a/x"]}, {})
    question = Question(
        config=config,
        environment="dev",
        mode=Mode.VERIFY,
        provider="local",
        commit="a" * 40,
        baseline=Baseline("none"),
        candidates=candidates,
        known={},
    )
    with pytest.raises(AssertionError, match="plans to write in verify mode"):
        planner.plan(question)
