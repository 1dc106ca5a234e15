"""Configuration + candidates + records → plan. Pure: data in, data out;
nothing here asks git or AWS. The steps that a plan shows are the very
objects that a run executes.
"""

from collections.abc import Iterator, Mapping

import msgspec

from cipipe import titles
from cipipe.candidates import Candidate
from cipipe.config import Config
from cipipe.model import Baseline, Effect, Mode, Plan, Reason, Record, StagePlan, State, Status
from cipipe.stages.context import Step

_LEFT_OUT = "stage {} needs {}, which is due and was not selected: it uses what is deployed"

# A stage's status, why it has it, and the same for people.
_Decision = tuple[Status, Reason, str]


class Known(msgspec.Struct, frozen=True):
    """What is known of one stage's deployment."""

    # With the ledger as baseline.
    record: Record | None = None

    # With a revision as baseline: the stage's fingerprint in that commit.
    fingerprint: str | None = None

    # The stage's paths that differ; None where that cannot be said.
    changed: tuple[bytes, ...] | None = None

    # Whether what is deployed consumed other outputs than there are now;
    # None where that is not known.
    inputs_changed: bool | None = None


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """All that a plan is made from."""

    # The view of the environment.
    config: Config
    environment: str

    mode: Mode
    provider: str
    commit: str
    baseline: Baseline

    # By the stage's name, in the order in which they run. What is not known
    # has no entry.
    candidates: Mapping[str, Candidate]
    known: Mapping[str, Known]

    # The stages that the plan is limited to, none for all, and those that
    # are due whatever is deployed.
    selected: frozenset[str] = frozenset()
    forced: frozenset[str] = frozenset()

    # Leave out stages that always run, and the default one.
    only_due: bool = False

    # What was noticed before.
    warnings: tuple[str, ...] = ()


class ExecutablePlan(msgspec.Struct, frozen=True):
    """A plan, and the very steps that it shows."""

    plan: Plan
    steps: Mapping[str, tuple[Step, ...]] = {}

    # Stages of the plan, each with one that it needs, which is due and was
    # not selected.
    left_out: tuple[tuple[str, str], ...] = ()

    # The stages that stay as they are.
    kept: frozenset[str] = frozenset()


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
    _add_defaults(question, decided, steps)

    shown = {name: stage for name, stage in decided.items() if _is_shown(question, name)}
    left_out = tuple(_left_out(question, decided, shown))
    whole = Plan(
        project=question.config.project.name,
        environment=question.environment,
        mode=question.mode,
        provider=question.provider,
        commit=question.commit,
        baseline=question.baseline,
        stages=tuple(shown.values()),
        warnings=(*question.warnings, *(_LEFT_OUT.format(*pair) for pair in left_out)),
    )
    kept = frozenset(name for name, stage in decided.items() if stage.status is Status.UNCHANGED)
    return ExecutablePlan(plan=whole, steps=steps, left_out=left_out, kept=kept)


def _decide(question: Question, candidate: Candidate, before: Mapping[str, StagePlan]) -> _Decision:
    """What is to be done with a stage. `before` are those that were decided already."""
    stage = candidate.stage
    if stage.name in question.forced:
        return Status.DUE, Reason.FORCED, "forced with --force"
    if stage.when == "always":
        return Status.DUE, Reason.FORCED, "always runs"
    if stage.when == "nothing-due":
        return Status.UNCHANGED, Reason.UNCHANGED, "runs when nothing else is due"

    known = question.known.get(stage.name, Known())
    if question.baseline.kind == "ledger":
        decision = _by_record(candidate, known)
    else:
        decision = _by_revision(question, candidate, known)
    if decision is not None:
        return decision

    # Nothing of its own has changed. What is left are the outputs that it
    # consumes.
    waiting = [n for n in stage.needs if n in before and before[n].status is not Status.UNCHANGED]
    if waiting:
        detail = f"due if the outputs of {' or '.join(waiting)} change"
        return Status.CONDITIONAL, Reason.UPSTREAM, detail
    if known.inputs_changed:
        return Status.DUE, Reason.UPSTREAM, "the outputs that it used have changed since"
    return Status.UNCHANGED, Reason.UNCHANGED, _same(known.record)


def _by_record(candidate: Candidate, known: Known) -> _Decision | None:
    """The decision by what the ledger says; None where the stage is deployed as it is."""
    record = known.record
    if record is None:
        if not candidate.has_files:
            return Status.UNCHANGED, Reason.UNCHANGED, "has no files, and nothing is deployed"
        return Status.DUE, Reason.NEVER_DEPLOYED, "never deployed here"
    if record.state is State.DESTROYED:
        return Status.DUE, Reason.DESTROYED, f"was destroyed {record.since}"
    if record.state is not State.DEPLOYED:
        detail = f"the last deployment did not succeed ({record.state.value} since {record.since})"
        return Status.DUE, Reason.NOT_FINISHED, detail
    if record.fingerprint != candidate.fingerprint:
        return Status.DUE, Reason.CHANGED, _changed(known.changed, record.commit)
    return None


def _by_revision(question: Question, candidate: Candidate, known: Known) -> _Decision | None:
    """The decision by what the stage was in a commit; None where it is the same there."""
    if question.baseline.kind == "none":
        if not candidate.has_files:
            return Status.UNCHANGED, Reason.UNCHANGED, "has no files"
        return Status.DUE, Reason.NO_BASELINE, "there is nothing to compare with"
    if known.fingerprint == candidate.fingerprint:
        return None
    revision = question.baseline.revision
    if known.fingerprint is None:
        return Status.DUE, Reason.CHANGED, f"the stage is not in {_short(revision)}"
    return Status.DUE, Reason.CHANGED, _changed(known.changed, revision)


def _add_defaults(
    question: Question, decided: dict[str, StagePlan], steps: dict[str, tuple[Step, ...]]
) -> None:
    """Make the stages due that run when nothing else is. They do not count for each other."""
    for name, stage in decided.items():
        if question.candidates[name].stage.when == "due" and stage.status is not Status.UNCHANGED:
            return
    for name, candidate in question.candidates.items():
        forced = decided[name].status is Status.DUE
        if candidate.stage.when != "nothing-due" or forced:
            continue
        steps[name] = _steps(question, candidate)
        decided[name] = msgspec.structs.replace(
            decided[name],
            status=Status.DUE,
            reason=Reason.NOTHING_DUE,
            detail="nothing else is due",
            steps=tuple(step.title for step in steps[name]),
        )


def _is_shown(question: Question, name: str) -> bool:
    if question.only_due and question.candidates[name].stage.when != "due":
        return False
    return not question.selected or name in question.selected or name in question.forced


def _left_out(
    question: Question, decided: Mapping[str, StagePlan], shown: Mapping[str, StagePlan]
) -> Iterator[tuple[str, str]]:
    """Stages that were selected without one that they need and that is due.

    A stage that always runs is always due: that says nothing.
    """
    for name, stage in shown.items():
        if stage.status is Status.UNCHANGED:
            continue
        for need in stage.needs:
            is_due = (
                decided[need].status is Status.DUE
                and question.candidates[need].stage.when != "always"
            )
            if need not in shown and is_due:
                yield name, need


def _steps(question: Question, candidate: Candidate) -> tuple[Step, ...]:
    stage = candidate.stage
    steps = titles.steps_of(
        config=question.config,
        environment=question.environment,
        stage=stage,
        mode=question.mode,
        tag=candidate.tag,
    )
    allowed = {Effect.READ, Effect.REVIEW}
    if question.mode is Mode.VERIFY and any(step.effect not in allowed for step in steps):
        message = f"kind {stage.kind} plans to write in verify mode"
        raise AssertionError(message)
    return steps


def _deployed(question: Question, known: Known) -> str | None:
    """The fingerprint of what is deployed, or was in the commit that is compared with."""
    if question.baseline.kind != "ledger":
        return known.fingerprint
    record = known.record
    return record.fingerprint if record and record.state is State.DEPLOYED else None


def _changed(paths: tuple[bytes, ...] | None, since: str | None) -> str:
    if paths is None:
        return f"the content differs from what {_short(since)} deployed"
    if not paths:
        return (
            "no file changed, but its settings did (or the content of a stage that they name) "
            f"since {_short(since)}"
        )
    return f"{len(paths)} file{'s' if len(paths) != 1 else ''} changed since {_short(since)}"


def _same(record: Record | None) -> str:
    return f"deployed from {_short(record.commit)}" if record else "the same content"


def _short(commit: str | None) -> str:
    return commit[:7] if commit else "an unknown commit"
