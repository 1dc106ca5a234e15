"""Configuration + fingerprints + records → Plan. Pure: data in, data out; nothing here asks git or
AWS.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from cipipe import titles
from cipipe.config import Config
from cipipe.errors import UsageError
from cipipe.fingerprint import digest
from cipipe.graph import ordered
from cipipe.model import (
    FINGERPRINT_TAG_LENGTH,
    Baseline,
    Effect,
    Mode,
    Plan,
    Reason,
    Record,
    StagePlan,
    State,
    Status,
)
from cipipe.stages.context import Step
from cipipe.stages.settings import AnyStage, Reference, references, replaced

_LEFT_OUT = "stage {} needs {}, which is due and was not selected: it works with what is deployed"


class Candidate(msgspec.Struct, frozen=True):
    """A stage with all that is known from the commit alone: variables and fingerprints filled in,
    outputs not yet.

    `content` is what `Contents` gives of its files.
    """

    stage: AnyStage
    fingerprint: str
    content: Sequence[bytes]

    @property
    def has_files(self) -> bool:
        return bool(self.content)

    @property
    def tag(self) -> str:
        return self.fingerprint[:FINGERPRINT_TAG_LENGTH]


class Known(msgspec.Struct, frozen=True):
    """What is known of one stage's deployment.

    With the ledger as baseline: its `record`. With a revision: the `fingerprint` of that commit.
    `changed` are the stage's paths that differ, None where that cannot be told here.
    `inputs_changed`: what is deployed consumed other outputs than are there now; None where that is
    not known.
    """

    record: Record | None = None
    fingerprint: str | None = None
    changed: tuple[bytes, ...] | None = None
    inputs_changed: bool | None = None


class Question(msgspec.Struct, frozen=True):
    """All that a plan is made from."""

    config: Config
    environment: str
    mode: Mode
    provider: str
    commit: str
    baseline: Baseline
    candidates: Mapping[str, Candidate]
    known: Mapping[str, Known]
    selected: frozenset[str] = frozenset()
    forced: frozenset[str] = frozenset()
    only_due: bool = False
    warnings: tuple[str, ...] = ()


class ExecutablePlan(msgspec.Struct, frozen=True):
    """A plan, and the very steps that it shows. `left_out` are stages with a needed one that is due
    and not selected, `kept` those that stay as they are.
    """

    plan: Plan
    steps: Mapping[str, tuple[Step, ...]] = {}
    left_out: tuple[tuple[str, str], ...] = ()
    kept: frozenset[str] = frozenset()


def make_candidates(
    config: Config,
    contents: Mapping[str, Sequence[bytes]],
    env: Mapping[str, str],
    known: Mapping[str, Candidate] | None = None,
) -> dict[str, Candidate]:
    """The fingerprint of every stage, of what `Contents` gives. What is as in `known`
    is not hashed again.

    Raises UsageError where a variable that a setting names is not set.
    """
    graph = {
        name: tuple(r.fingerprint for _, r in references(stage.settings) if r.fingerprint)
        for name, stage in config.stages.items()
    }
    done: dict[str, Candidate] = {}
    for name in ordered(graph):
        stage = config.stages[name]
        settings = replaced(stage.settings, _filler(name, done, env))
        filled = msgspec.structs.replace(stage, settings=settings)
        content = contents.get(name, ())
        same = (known or {}).get(name)
        if same is not None and (same.stage, same.content) == (filled, content):
            done[name] = same
        else:
            counted = {"paths": stage.paths, "settings": msgspec.to_builtins(settings)}
            done[name] = Candidate(filled, digest(stage.kind, counted, content), content)
    return {name: done[name] for name in config.stages}


def plan(question: Question) -> ExecutablePlan:
    """Which stages are due, and why, in the order in which they run."""
    decided: dict[str, StagePlan] = {}
    steps: dict[str, tuple[Step, ...]] = {}
    for name, candidate in question.candidates.items():
        status, reason, detail = _decide(question, candidate, decided)
        steps[name] = _steps(question, candidate) if status is not Status.UNCHANGED else ()
        known = question.known.get(name, Known())
        decided[name] = StagePlan(
            name=name,
            kind=candidate.stage.kind,
            status=status,
            reason=reason,
            detail=detail,
            fingerprint=candidate.fingerprint,
            deployed_fingerprint=_deployed(question, known),
            paths=(known.changed or ()) if status is Status.DUE else (),
            needs=candidate.stage.needs,
            steps=tuple(step.title for step in steps[name]),
        )
    for name, candidate in question.candidates.items():
        if candidate.stage.when == "nothing-due":
            decided[name] = _default(question, decided, decided[name], candidate, steps)
    shown = [name for name in decided if _shown(question, name)]
    left_out = tuple(_left_out(question, decided, shown))
    result = Plan(
        project=question.config.project.name,
        environment=question.environment,
        mode=question.mode,
        provider=question.provider,
        commit=question.commit,
        baseline=question.baseline,
        stages=tuple(decided[name] for name in shown),
        warnings=(*question.warnings, *(_LEFT_OUT.format(*pair) for pair in left_out)),
    )
    kept = frozenset(name for name, stage in decided.items() if stage.status is Status.UNCHANGED)
    return ExecutablePlan(result, steps, left_out, kept)


def _decide(
    question: Question, candidate: Candidate, before: Mapping[str, StagePlan]
) -> tuple[Status, Reason, str]:
    stage = candidate.stage
    if stage.name in question.forced:
        return Status.DUE, Reason.FORCED, "asked for with --force"
    if stage.when == "always":
        return Status.DUE, Reason.FORCED, "runs always"
    if stage.when == "nothing-due":
        return Status.UNCHANGED, Reason.UNCHANGED, "runs when nothing else is due"
    known = question.known.get(stage.name, Known())
    found = (
        _by_revision(question, candidate, known)
        if question.baseline.kind != "ledger"
        else _by_record(candidate, known)
    )
    if found is not None:
        return found
    waiting = [n for n in stage.needs if n in before and before[n].status is not Status.UNCHANGED]
    if waiting:
        return (
            Status.CONDITIONAL,
            Reason.UPSTREAM,
            f"due if the outputs of {' or '.join(waiting)} change",
        )
    if known.inputs_changed:
        return Status.DUE, Reason.UPSTREAM, "the outputs that it consumed have changed since"
    return Status.UNCHANGED, Reason.UNCHANGED, _same(known.record)


def _by_record(candidate: Candidate, known: Known) -> tuple[Status, Reason, str] | None:
    record = known.record
    if record is None:
        if not candidate.has_files:
            return Status.UNCHANGED, Reason.UNCHANGED, "has no files, and nothing is deployed"
        return Status.DUE, Reason.NEVER_DEPLOYED, "never deployed here"
    if record.state is State.DESTROYED:
        return Status.DUE, Reason.DESTROYED, f"was destroyed {record.since}"
    if record.state is not State.DEPLOYED:
        return (
            Status.DUE,
            Reason.NOT_FINISHED,
            f"the last deployment did not end well ({record.state.value} since {record.since})",
        )
    if record.fingerprint != candidate.fingerprint:
        return Status.DUE, Reason.CHANGED, _changed(known.changed, record.commit)
    return None


def _by_revision(
    question: Question, candidate: Candidate, known: Known
) -> tuple[Status, Reason, str] | None:
    if question.baseline.kind == "none":
        if not candidate.has_files:
            return Status.UNCHANGED, Reason.UNCHANGED, "has no files"
        return Status.DUE, Reason.NO_BASELINE, "there is nothing to compare with"
    if known.fingerprint == candidate.fingerprint:
        return None
    if known.fingerprint is None:
        return (
            Status.DUE,
            Reason.CHANGED,
            f"the stage is not in {_short(question.baseline.revision)}",
        )
    return Status.DUE, Reason.CHANGED, _changed(known.changed, question.baseline.revision)


def _default(
    question: Question,
    decided: Mapping[str, StagePlan],
    shown: StagePlan,
    candidate: Candidate,
    steps: dict[str, tuple[Step, ...]],
) -> StagePlan:
    others = [
        s
        for n, s in decided.items()
        if question.candidates[n].stage.when == "due" and s.status is not Status.UNCHANGED
    ]
    if others or shown.status is Status.DUE:
        return shown
    steps[shown.name] = _steps(question, candidate)
    return msgspec.structs.replace(
        shown,
        status=Status.DUE,
        reason=Reason.NOTHING_DUE,
        detail="nothing else is due",
        steps=tuple(step.title for step in steps[shown.name]),
    )


def _shown(question: Question, name: str) -> bool:
    if question.only_due and question.candidates[name].stage.when != "due":
        return False
    return not question.selected or name in question.selected | question.forced


def _left_out(
    question: Question, decided: Mapping[str, StagePlan], shown: list[str]
) -> Iterator[tuple[str, str]]:
    """What a selection leaves out, though it is needed and due. A stage that always runs is always
    due: that says nothing.
    """
    for name in shown:
        for need in decided[name].needs:
            if (
                need not in shown
                and decided[need].status is Status.DUE
                and question.candidates[need].stage.when != "always"
                and decided[name].status is not Status.UNCHANGED
            ):
                yield name, need


def _steps(question: Question, candidate: Candidate) -> tuple[Step, ...]:
    stage = candidate.stage
    steps = titles.steps_of(
        question.config, question.environment, stage, question.mode, tag=candidate.tag
    )
    if question.mode is Mode.VERIFY and any(step.effect is not Effect.READ for step in steps):
        message = f"kind {stage.kind} plans to write in verify mode"
        raise AssertionError(message)
    return steps


def _filler(
    name: str, done: Mapping[str, Candidate], env: Mapping[str, str]
) -> "Callable[[Reference | str], object]":
    def fill(value: Reference | str) -> object:
        if isinstance(value, str) or value.output is not None:
            return value
        if value.fingerprint is not None:
            return done[value.fingerprint].tag
        found = env.get(value.env or "", value.default)
        if found is None:
            raise UsageError(
                "setting-variable-unset",
                f"a setting of stage {name} takes its value from the variable {value.env}, which is not set",
                hint=f'Set {value.env}, or give the setting a default: {{ env = "{value.env}", default = "…" }}.',
                where=f"stages.{name}",
            )
        return found

    return fill


def _deployed(question: Question, known: Known) -> str | None:
    if question.baseline.kind == "ledger":
        record = known.record
        return record.fingerprint if record and record.state is State.DEPLOYED else None
    return known.fingerprint


def _changed(paths: tuple[bytes, ...] | None, since: str | None) -> str:
    if paths is None:
        return f"the content differs from what {_short(since)} deployed"
    if not paths:
        return f"no file changed, but its settings did (or the content of a stage that they name) since {_short(since)}"
    return f"{len(paths)} file{'s' if len(paths) != 1 else ''} changed since {_short(since)}"


def _same(record: Record | None) -> str:
    return f"deployed from {_short(record.commit)}" if record else "the same content"


def _short(commit: str | None) -> str:
    return commit[:7] if commit else "an unknown commit"
