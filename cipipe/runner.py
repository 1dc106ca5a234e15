"""Plan + tools → Report: each stage's steps in order, with the ledger told before the first effect and after the last."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from cipipe.errors import CipipeError, InterruptedRun, StageError, UsageError
from cipipe.fingerprint import consumed, effective
from cipipe.ledger import Held, Ledger
from cipipe.model import (
    SCHEMA,
    Context,
    Effect,
    Mode,
    Output,
    Plan,
    Record,
    Report,
    Result,
    StagePlan,
    StageReport,
    State,
    Status,
)
from cipipe.parse import nearest
from cipipe.planner import Planned, Prepared
from cipipe.redact import Redactor
from cipipe.stages.base import Reference, Stage, StageRun, Step, replaced


class Progress(Protocol):
    """Who is told what happens, while it happens. Text is masked already."""

    def stage_begins(self, stage: StagePlan) -> None: ...

    def step(self, stage: str, title: str) -> None: ...

    def line(self, stage: str, text: str) -> None: ...

    def stage_ends(self, report: StageReport) -> None: ...

    def warning(self, text: str) -> None: ...


@dataclass
class Runner:
    """One run of one plan. `make_run` gives a stage its doors; `missing` names tools that are not to be had here.

    `restored` has the effective digest of a stage that a rollback puts back: it is what was deployed then.
    """

    planned: Planned
    prepared: Mapping[str, Prepared]
    ledger: Ledger
    context: Context
    redactor: Redactor
    progress: Progress
    make_run: Callable[..., StageRun]
    expand: Callable[[str], str]
    upstream: Callable[[str], Sequence[str]]
    consumes: Callable[[Prepared], frozenset[str]]
    missing: Mapping[str, str]
    tools: Callable[[Stage], tuple[str, ...]]
    sandbox: bool = False
    restored: Mapping[str, str | None] = field(default_factory=dict)
    held: dict[str, Held | None] = field(default_factory=dict)
    outputs: dict[str, dict[str, Output]] = field(default_factory=dict)
    error: CipipeError | None = None
    _reports: dict[str, StageReport] = field(default_factory=dict)
    _begun: set[str] = field(default_factory=set)

    def deploy(self) -> Report:
        """Run every due stage after those that it needs; one that fails keeps back only what needs it."""
        for stage in self.planned.plan.stages:
            self._reports[stage.name] = self._one(stage)
            if isinstance(self.error, InterruptedRun):
                break
        return self.report()

    def destroy(self) -> Report:
        """Look at everything first, then take the stages down in the order of the plan (which is the reverse one)."""
        runs: dict[str, StageRun] = {}
        for stage in self.planned.plan.stages:
            if stage.status is not Status.UNCHANGED:
                self.progress.stage_begins(stage)
                runs[stage.name] = self.prepare(stage)
                for step in self._steps(stage, looks=True):
                    self._step(runs[stage.name], step)
        for stage in self.planned.plan.stages:
            if stage.name in runs:
                report = self._guarded(stage, lambda s: self._take_down(s, runs[s.name]))
            else:
                report = self._end(stage, Result.UNCHANGED, stage.detail, 0.0)
            self._reports[stage.name] = report
            if report.result is Result.FAILED:
                break
        return self.report()

    def report(self) -> Report:
        plan: Plan = self.planned.plan
        absent = [s for s in plan.stages if s.name not in self._reports]
        left = tuple(StageReport(s.name, s.kind, Result.NOT_RUN, s.reason, "not reached", 0.0) for s in absent)
        done = tuple(self._reports[s.name] for s in plan.stages if s.name in self._reports)
        return Report(plan.project, plan.environment, plan.mode, plan.commit, done + left)

    def _one(self, stage: StagePlan) -> StageReport:
        if stage.status is Status.UNCHANGED:
            return self._end(stage, Result.UNCHANGED, stage.detail, 0.0)
        needs = [self._reports[n] for n in stage.needs if n in self._reports]
        blocked = [r.name for r in needs if r.result in {Result.FAILED, Result.NOT_RUN}]
        if blocked:
            return self._end(stage, Result.NOT_RUN, f"needs {' and '.join(blocked)}", 0.0)
        if not self.planned.steps[stage.name]:
            return self._end(stage, Result.SKIPPED, f"does nothing in {self.planned.plan.mode} mode", 0.0)
        lacking = [tool for tool in self.tools(self.prepared[stage.name].stage) if tool in self.missing]
        if lacking:
            return self._end(stage, Result.SKIPPED, f"{' and '.join(lacking)} is not to be had here", 0.0)
        skipped = [r.name for r in needs if r.result is Result.SKIPPED]
        if skipped:
            self.progress.warning(f"stage {stage.name} runs although {' and '.join(skipped)} was skipped (sandbox)")
        return self._guarded(stage, self._deploy)

    def _guarded(self, stage: StagePlan, work: Callable[[StagePlan], StageReport]) -> StageReport:
        """Do the work; an error becomes a FAILED report and a `failed` record, an interrupt is passed on."""
        started = time.monotonic()
        try:
            return work(stage)
        except _Skip as skip:
            return self._end(stage, Result.SKIPPED, skip.why, time.monotonic() - started)
        except CipipeError as error:
            self._record_failure(stage)
            if isinstance(error, UsageError):
                error.exit_status = StageError.exit_status  # what is wrong is in the stage's files
            self.error = self.error or error
            first = self.redactor.text(error.message).splitlines()[0]
            return self._end(stage, Result.FAILED, first, time.monotonic() - started)
        except KeyboardInterrupt:
            self._record_failure(stage)
            self.error = InterruptedRun(
                "interrupted",
                f"interrupted during stage {stage.name}; what was running has stopped",
                hint="Run again: the stage is due, and finishes what was begun.",
                where=stage.name,
            )
            return self._end(stage, Result.FAILED, "interrupted", time.monotonic() - started)

    def _deploy(self, stage: StagePlan) -> StageReport:
        started = time.monotonic()
        prepared = self.prepared[stage.name]
        run = self.prepare(stage)
        actual = self.restored.get(stage.name) or effective(
            stage.fingerprint, consumed(run.outputs, self.consumes(prepared))
        )
        held = self.held.get(stage.name)
        if stage.status is Status.CONDITIONAL and held and held.record.effective == actual:
            return self._end(stage, Result.UNCHANGED, "its inputs turned out the same", time.monotonic() - started)
        self.progress.stage_begins(stage)
        recorded = prepared.stage.when == "due"
        begun = False
        for step in self._steps(stage):
            if run.settled and step.effect is not Effect.READ and self._stands(stage, actual, run.data):
                return self._end(stage, Result.UNCHANGED, "all of it is there already", time.monotonic() - started)
            if recorded and not begun and step.effect is not Effect.READ:
                self._write(stage, State.DEPLOYING, actual, run.data)
                begun = True
            self._step(run, step)
        if run.made_outputs is not None:
            self.outputs[stage.name] = run.made_outputs
            self._still_ours(stage.name)
            self.ledger.write_outputs(stage.name, run.made_outputs)
        if recorded and self.planned.plan.mode is Mode.DEPLOY:
            self._write(stage, State.DEPLOYED, actual, run.data)
        return self._end(stage, Result.DONE, stage.detail, time.monotonic() - started, run.made)

    def _take_down(self, stage: StagePlan, run: StageRun) -> StageReport:
        started = time.monotonic()
        self._write(stage, State.DEPLOYING, None, run.data)
        for step in self._steps(stage, looks=False):
            self._step(run, step)
        self._write(stage, State.DESTROYED, None, {})
        return self._end(stage, Result.DONE, "destroyed", time.monotonic() - started, run.made)

    def _steps(self, stage: StagePlan, *, looks: bool | None = None) -> Sequence[Step]:
        steps = self.planned.steps[stage.name]
        first = next((i for i, step in enumerate(steps) if step.effect is not Effect.READ), len(steps))
        return steps if looks is None else steps[:first] if looks else steps[first:]

    def _step(self, run: StageRun, step: Step) -> None:
        self.progress.step(run.stage.name, _filled(step.title, run.outputs))
        step.run(run)

    def prepare(self, stage: StagePlan) -> StageRun:
        """A stage's doors, with its settings resolved. Raises StageError where an output is not to be had."""
        prepared = self.prepared[stage.name]
        known = self._outputs(stage.name)
        settings = replaced(prepared.stage.settings, lambda value: self._resolved(value, stage, known))
        held = self.held.get(stage.name)
        return self.make_run(
            prepared,
            msgspec.structs.replace(prepared.stage, settings=settings),
            outputs=known,
            previous=held.record if held else None,
            line=lambda text: self.progress.line(stage.name, text),
            still_ours=lambda: self._still_ours(stage.name),
        )

    def _resolved(self, value: Reference | str, stage: StagePlan, known: Mapping[str, Output]) -> Any:
        if isinstance(value, str):
            return self.expand(value)
        name = value.output or ""
        if value.default is not None and name in known and known[name].value is None:
            return value.default
        if name in known and not known[name].sensitive and isinstance(known[name].value, (str, int, float)):
            found = known[name].value
            return str(found).lower() if isinstance(found, bool) else str(found)  # as Terraform writes it
        if self.planned.plan.mode is Mode.VERIFY and name not in known:
            return value
        if any(self._reports[n].result is Result.SKIPPED for n in self.upstream(stage.name) if n in self._reports):
            raise _Skip(f"its input {name} comes from a stage that was skipped")
        if name in known:
            reason = "is sensitive" if known[name].sensitive else "is not a string or number"
            raise StageError("output-unusable", f"output {name} {reason}", where=f"stages.{stage.name}")
        raise StageError(
            "output-unknown",
            f"no stage that {stage.name} needs has an output {name!r}",
            hint=nearest(name, known, otherwise="Known outputs: " + (", ".join(sorted(known)) or "none yet")),
            where=f"stages.{stage.name}",
        )

    def _outputs(self, name: str) -> dict[str, Output]:
        merged: dict[str, Output] = {}
        for need in self.upstream(name):
            merged |= self.outputs.get(need, {})
        return merged

    def _write(self, stage: StagePlan, state: State, actual: str | None, data: Mapping[str, Any]) -> None:
        held = self.held.get(stage.name)
        begun = state is State.DEPLOYING or held is None
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        record = Record(
            schema=SCHEMA,
            stage=stage.name,
            fingerprint=stage.fingerprint,
            effective=actual,
            state=state,
            commit=self.planned.plan.commit,
            ref=self.context.ref,
            provider=self.context.provider,
            sequence=self.context.sequence,
            pipeline_url=self.context.pipeline_url,
            started_at=now if begun or held is None else held.record.started_at,
            finished_at=None if state is State.DEPLOYING else now,
            data=dict(data),
        )
        self.held[stage.name] = self.ledger.write(record, held)
        self._begun.add(stage.name)

    def _stands(self, stage: StagePlan, actual: str | None, data: Mapping[str, Any]) -> bool:
        """Whether the record says already what it would say in the end."""
        held = self.held.get(stage.name)
        return (
            held is not None
            and (held.record.state, held.record.fingerprint, held.record.effective)
            == (
                State.DEPLOYED,
                stage.fingerprint,
                actual,
            )
            and held.record.data == dict(data)
        )

    def _still_ours(self, stage: str) -> None:
        """Stop where a later run has taken the stage over: its effects must not be overwritten. Raises ConflictError."""
        held = self.held.get(stage)
        if held is not None and stage in self._begun:
            self.ledger.check(held)

    def _record_failure(self, stage: StagePlan) -> None:
        """Say `failed` where we said `deploying`; where that fails too, `deploying` stands and means the same.

        A `deploying` that this run found, and did not write, may be another run's that is still at it.
        """
        held = self.held.get(stage.name)
        if held is None or stage.name not in self._begun or held.record.state is not State.DEPLOYING:
            return
        try:
            self._write(stage, State.FAILED, held.record.effective, held.record.data)
        except CipipeError as error:
            self.progress.warning(f"the ledger could not be told that {stage.name} failed: {error.message}")

    def _end(self, stage: StagePlan, result: Result, detail: str, seconds: float, made: str = "") -> StageReport:
        report = StageReport(stage.name, stage.kind, result, stage.reason, detail, round(seconds, 1), made)
        self.progress.stage_ends(report)
        return report


def _filled(title: str, outputs: Mapping[str, Output]) -> str:
    """A step's title as the plan has it, with the outputs that are known by now."""
    for name, output in outputs.items():
        if isinstance(output.value, str) and not output.sensitive:
            title = title.replace(f"{{{name}}}", output.value)
    return title


class _Skip(Exception):
    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
