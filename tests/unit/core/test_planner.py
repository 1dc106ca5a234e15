"""The decision table: what is due, and why. Pure data in, pure data out."""

from typing import Any

import msgspec
import pytest

from cipipe import planner
from cipipe.candidates import Candidate, make_candidates
from cipipe.errors import UsageError
from cipipe.model import Baseline, Mode, Plan, Reason, Record, State, Status
from cipipe.planner import Known, Question
from support.configurations import HEAD, IAC, WHOLE, command, load

LEDGER = Baseline("ledger")
NOTHING = Baseline("none")
COMMIT = Baseline("revision", "c" * 40)


class Scenario:
    """A configuration in which all stages have files, and what is known of their deployment."""

    def __init__(
        self, text: str = WHOLE, *, without: tuple[str, ...] = (), env: dict[str, str] | None = None
    ) -> None:
        self.config = load(text)
        contents = {name: [] if name in without else [name.encode()] for name in self.config.stages}
        self.candidates = make_candidates(self.config, contents, env or {})

    def deployed(
        self, *names: str, state: State = State.DEPLOYED, **changes: Any
    ) -> dict[str, Known]:
        return {
            name: Known(record(name, self.candidates[name].fingerprint, state), **changes)
            for name in names
        }

    def plan(self, known: dict[str, Known], **question: Any) -> Plan:
        given: dict[str, Any] = {"baseline": LEDGER, "mode": Mode.DEPLOY, **question}
        made = planner.plan(
            Question(
                config=self.config,
                environment="dev",
                provider="local",
                commit="a" * 40,
                candidates=self.candidates,
                known=known,
                **given,
            )
        )
        for stage in made.plan.stages:
            assert stage.steps == tuple(step.title for step in made.steps[stage.name])
            assert bool(stage.steps) is (stage.status is not Status.UNCHANGED)
        return made.plan

    def reasons(self, known: dict[str, Known], **question: Any) -> dict[str, str]:
        return {s.name: f"{s.status} {s.reason}" for s in self.plan(known, **question).stages}


def record(stage: str, fingerprint: str, state: State = State.DEPLOYED) -> Record:
    return Record(
        schema=1,
        stage=stage,
        fingerprint=fingerprint,
        effective="e" * 64,
        state=state,
        commit="d" * 40,
        ref="main",
        provider="gitlab",
        sequence=7,
        pipeline_url=None,
        started_at="2026-01-02T03:04:05+00:00",
        finished_at=None,
    )


ALL = ("iac", "image", "dags")


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Known(), (Status.DUE, Reason.NEVER_DEPLOYED, "never deployed here")),
        (Known(record("a", "SAME")), (Status.UNCHANGED, Reason.UNCHANGED, "deployed from ddddddd")),
        (
            Known(record("a", "SAME"), inputs_changed=True),
            (Status.DUE, Reason.UPSTREAM, "the outputs that it"),
        ),
        (
            Known(record("a", "0" * 64)),
            (Status.DUE, Reason.CHANGED, "differs from what ddddddd deployed"),
        ),
        (
            Known(record("a", "0" * 64), changed=()),
            (Status.DUE, Reason.CHANGED, "its settings did"),
        ),
        (
            Known(record("a", "0" * 64), changed=(b"x",)),
            (Status.DUE, Reason.CHANGED, "1 file changed since ddddddd"),
        ),
        (
            Known(record("a", "0" * 64), changed=(b"x", b"y")),
            (Status.DUE, Reason.CHANGED, "2 files changed"),
        ),
        (
            Known(record("a", "SAME", State.FAILED)),
            (Status.DUE, Reason.NOT_FINISHED, "did not succeed"),
        ),
        (
            Known(record("a", "0" * 64, State.FAILED)),
            (Status.DUE, Reason.NOT_FINISHED, "did not succeed"),
        ),
        (
            Known(record("a", "SAME", State.DEPLOYING)),
            (Status.DUE, Reason.NOT_FINISHED, "did not succeed"),
        ),
        (
            Known(record("a", "SAME", State.DESTROYED)),
            (Status.DUE, Reason.DESTROYED, "was destroyed 2026"),
        ),
    ],
)
def test_against_the_ledger(known: Known, expected: tuple[Status, Reason, str]) -> None:
    scenario = Scenario(HEAD + command("a"))
    if known.record and known.record.fingerprint == "SAME":
        same = msgspec.structs.replace(
            known.record, fingerprint=scenario.candidates["a"].fingerprint
        )
        known = Known(same, known.fingerprint, known.changed, known.inputs_changed)
    (stage,) = scenario.plan({"a": known}).stages
    assert (stage.status, stage.reason) == expected[:2]
    assert expected[2] in stage.detail
    assert stage.paths == (known.changed or ())
    deployed = known.record and known.record.state is State.DEPLOYED
    assert stage.deployed_fingerprint == (
        known.record.fingerprint if known.record and deployed else None
    )


@pytest.mark.parametrize(
    ("baseline", "known", "expected"),
    [
        (NOTHING, Known(), "due no-baseline"),
        (COMMIT, Known(fingerprint="SAME"), "unchanged unchanged"),
        (COMMIT, Known(fingerprint="0" * 64, changed=(b"x",)), "due changed"),
        (COMMIT, Known(), "due changed"),
    ],
)
def test_against_a_commit(baseline: Baseline, known: Known, expected: str) -> None:
    scenario = Scenario(HEAD + command("a"))
    if known.fingerprint == "SAME":
        known = Known(fingerprint=scenario.candidates["a"].fingerprint)
    assert scenario.reasons({"a": known}, baseline=baseline) == {"a": expected}


def test_a_stage_without_files_is_not_due_unless_something_was_deployed() -> None:
    scenario = Scenario(HEAD + command("a"), without=("a",))
    assert scenario.reasons({}) == {"a": "unchanged unchanged"}
    assert scenario.reasons({}, baseline=NOTHING) == {"a": "unchanged unchanged"}
    assert scenario.reasons({"a": Known(record("a", "0" * 64), changed=(b"a/last",))}) == {
        "a": "due changed"
    }


def test_everything_is_due_at_first_and_the_default_stage_at_last() -> None:
    scenario = Scenario()
    first = dict.fromkeys(ALL, "due never-deployed")
    assert scenario.reasons({}) == {**first, "default": "unchanged unchanged"}
    assert scenario.reasons(scenario.deployed(*ALL)) == {
        **dict.fromkeys(ALL, "unchanged unchanged"),
        "default": "due nothing-due",
    }


def test_what_needs_a_due_stage_is_conditional_through_and_through() -> None:
    scenario = Scenario()
    known = scenario.deployed("image", "dags") | {"iac": Known(record("iac", "0" * 64))}
    assert scenario.reasons(known) == {
        "iac": "due changed",
        "image": "conditional upstream",
        "dags": "conditional upstream",
        "default": "unchanged unchanged",
    }


def test_changed_itself_is_due_whatever_it_needs() -> None:
    scenario = Scenario()
    known = scenario.deployed("iac", "image") | {"dags": Known(record("dags", "0" * 64))}
    assert scenario.reasons(known)["dags"] == "due changed"
    assert scenario.reasons(known | {"iac": Known()})["dags"] == "due changed"


def test_force_and_selection() -> None:
    scenario = Scenario()
    known = scenario.deployed(*ALL)
    assert scenario.reasons(known, forced=frozenset({"image"})) == {
        "iac": "unchanged unchanged",
        "image": "due forced",
        "dags": "conditional upstream",
        "default": "unchanged unchanged",
    }
    assert scenario.reasons(known, selected=frozenset({"dags"})) == {"dags": "unchanged unchanged"}
    assert scenario.reasons({}, selected=frozenset({"iac", "dags"})) == {
        "iac": "due never-deployed",
        "dags": "due never-deployed",
    }
    assert scenario.reasons(known, selected=frozenset({"default"})) == {
        "default": "due nothing-due"
    }
    assert scenario.reasons(known, forced=frozenset({"default"}))["default"] == "due forced"


def test_a_needed_stage_that_always_runs_is_not_missed() -> None:
    """It is due in every plan, which says nothing of whether it has run."""
    text = HEAD + command("setup", when='"always"', paths="[]") + command("load", needs='["setup"]')
    scenario = Scenario(text)
    assert scenario.plan({}, selected=frozenset({"load"})).warnings == ()


def test_a_stage_that_runs_always() -> None:
    scenario = Scenario(
        HEAD + IAC + command("notify", when='"always"') + command("default", when='"nothing-due"')
    )
    assert scenario.reasons(scenario.deployed("iac")) == {
        "iac": "unchanged unchanged",
        "notify": "due forced",
        "default": "due nothing-due",
    }


def test_a_changed_fingerprint_setting_makes_the_stage_that_names_it_due() -> None:
    text = WHOLE.replace(
        'root = "terraform"', 'root = "terraform"\nvariables = { tag = { fingerprint = "image" } }'
    )
    before, after = Scenario(text), Scenario(text, without=("image",))
    assert (
        before.candidates["iac"].stage.settings.variables["tag"]
        == before.candidates["image"].fingerprint[:20]
    )
    assert before.candidates["iac"].fingerprint != after.candidates["iac"].fingerprint
    assert before.candidates["dags"].fingerprint == after.candidates["dags"].fingerprint


def fingerprint(text: str, env: dict[str, str] | None = None) -> str:
    candidate: Candidate = Scenario(HEAD + text, env=env).candidates["a"]
    return candidate.fingerprint


def test_what_counts_into_a_fingerprint() -> None:
    base = fingerprint(command("a"))
    assert fingerprint(command("a", paths='["a/**", "!a/x"]')) != base
    assert fingerprint(command("a", run='[["false"]]')) != base
    assert fingerprint(command("a", env='{ X = "1" }')) != base
    assert fingerprint(command("a", needs="[]", env="{}")) == base
    assert fingerprint(command("a") + command("b")) == base


def test_a_variable_counts_by_its_value() -> None:
    text = command("a", env='{ X = { env = "HERE", default = "1" } }')
    assert (
        fingerprint(text)
        == fingerprint(text, {"HERE": "1", "OTHER": "2"})
        == fingerprint(command("a", env='{ X = "1" }'))
    )
    assert fingerprint(text, {"HERE": "2"}) != fingerprint(text)
    assert fingerprint(text, {"HERE": ""}) != fingerprint(text)


def test_a_variable_that_is_not_set() -> None:
    with pytest.raises(UsageError) as caught:
        fingerprint(command("a", env='{ X = { env = "HERE" } }'))
    assert (caught.value.id, caught.value.where) == ("setting-variable-unset", "stages.a")
    assert "HERE" in caught.value.message


def test_an_output_counts_by_its_name() -> None:
    one, other = WHOLE, WHOLE.replace('"url"', '"link"')
    assert (
        Scenario(one).candidates["image"].fingerprint
        != Scenario(other).candidates["image"].fingerprint
    )
