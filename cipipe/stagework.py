"""One stage's life: its doors, its steps in order, the ledger told before the first effect and
after the last.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Protocol

import msgspec

from cipipe import machine, outputs, titles
from cipipe.errors import CipipeError, StageError, UsageError
from cipipe.fingerprint import consumed, effective
from cipipe.interrupt import Interrupt
from cipipe.model import Effect, Mode, Output, Record, Result, StagePlan, StageReport, State, Status
from cipipe.planner import Candidate, ExecutablePlan
from cipipe.records import Records
from cipipe.redact import Redactor
from cipipe.stages.base import AnyStage, Reference, StageContext, StageResult, Step, replaced
from cipipe.terminal import plain


def failing(error: CipipeError) -> CipipeError:
    """An error of a stage's step: what a usage error complains of is in the stage's files, and not
    on the command line.
    """
    if isinstance(error, UsageError):
        error.exit_status = StageError.exit_status
    return error


class Progress(Protocol):
    """Who is told what happens, while it happens, from several threads. Text is masked already."""

    def stage_begins(self, stage: StagePlan, *, alone: bool) -> None:
        """`alone`: no other stage runs until this one has ended."""
        ...

    def step(self, stage: str, title: str) -> None: ...

    def line(self, stage: str, text: str) -> None: ...

    def stage_ends(self, report: StageReport) -> None: ...

    def warning(self, text: str) -> None: ...


class RunnerInputs(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a stage's context that only the runner knows; see `StageContext`."""

    outputs: Mapping[str, Output]
    previous: Record | None
    line: Callable[[str], None]
    still_ours: Callable[[], None]
    beside: Callable[[], Mapping[str, Mapping[str, Any]]]
    interrupt: Interrupt


class ContextFactory(Protocol):
    """What a run knows of the project, and how it makes the contexts of its stages."""

    def upstream(self, stage: str) -> Sequence[str]:
        """All stages that this one needs, directly or not."""
        ...

    def lacking(self, stage: AnyStage) -> Sequence[str]:
        """The outside tools that the stage needs and that are not to be had here."""
        ...

    def consumes(self, candidate: Candidate) -> frozenset[str]:
        """The Terraform outputs that the stage takes."""
        ...

    def expand(self, text: str) -> str:
        """A setting's text with `{environment}` and the like filled in."""
        ...

    def context_for(
        self, candidate: Candidate, stage: AnyStage, inputs: RunnerInputs
    ) -> StageContext[Any]:
        """The context of a stage. `stage` is the same as in `candidate`, with every setting resolved."""
        ...


class StageOutcome(msgspec.Struct, frozen=True):
    """How a stage ended: what is told of it, the error that it failed with, the outputs that it
    made.
    """

    report: StageReport
    error: CipipeError | None = None
    outputs: dict[str, Output] | None = None
    interrupted: bool = False


@dataclass
class StageWork:
    """What the stages of one plan do. `outputs` are those of stages that ran earlier, `reports` how
    stages have ended.

    `restored` has the effective digest of a stage that a rollback puts back: it is what was
    deployed then. Each stage may have a thread; `outputs` and `reports` are changed by the thread
    that schedules, and by no other.
    """

    executable: ExecutablePlan
    candidates: Mapping[str, Candidate]
    records: Records
    factory: ContextFactory
    redactor: Redactor
    progress: Progress
    outputs: dict[str, dict[str, Output]] = field(default_factory=dict)
    restored: Mapping[str, str | None] = field(default_factory=dict)
    interrupt: Interrupt = field(default_factory=Interrupt)
    reports: dict[str, StageReport] = field(default_factory=dict)
    # Of each stage that has started, set and read by its own thread.
    contexts: dict[str, StageContext[Any]] = field(default_factory=dict)
    results: dict[str, StageResult] = field(default_factory=dict)

    def guarded(
        self, stage: StagePlan, work: Callable[..., StageOutcome], **how: Any
    ) -> StageOutcome:
        """Do the work; an error becomes a FAILED report and a `failed` record."""
        started = time.monotonic()
        result, error, interrupted = Result.FAILED, None, False
        try:
            return work(stage, **how)
        except _Skip as skip:
            result, detail = Result.SKIPPED, skip.why
        except CipipeError as failure:
            self._record_failure(stage)
            said = plain(self.redactor.text(failure.message)).splitlines()
            detail, error = said[0] if said else failure.id, failing(failure)
        except OSError as raised:
            error = machine.fault(raised)
            if error is None:
                raise
            self._record_failure(stage)
            detail = error.message
        except KeyboardInterrupt:
            self._record_failure(stage)
            detail, interrupted = "interrupted", True
        return StageOutcome(
            self.end(stage, result, detail, time.monotonic() - started),
            error,
            interrupted=interrupted,
        )

    def deploy_stage(self, stage: StagePlan, *, alone: bool) -> StageOutcome:
        started = time.monotonic()
        candidate = self.candidates[stage.name]
        context = self.context_for(stage)
        result = self.results[stage.name] = StageResult.after(context.previous)
        actual = self.restored.get(stage.name) or effective(
            stage.fingerprint, consumed(context.outputs, self.factory.consumes(candidate))
        )
        last = self.records.last(stage.name)
        if stage.status is Status.CONDITIONAL and last and last.effective == actual:
            detail = "its inputs turned out the same"
            return StageOutcome(
                self.end(stage, Result.UNCHANGED, detail, time.monotonic() - started)
            )

        self.progress.stage_begins(stage, alone=alone)
        context = msgspec.structs.replace(
            context, is_current=self.records.is_current(stage, actual)
        )
        recorded = candidate.stage.when == "due"
        begun = False
        if context.claims is not None:
            context.claims.check()
        for step in self.executable.steps[stage.name]:
            if (
                result.up_to_date
                and step.effect is not Effect.READ
                and self.records.is_current(stage, actual, result.data)
            ):
                detail = "all of it is there already"
                return StageOutcome(
                    self.end(stage, Result.UNCHANGED, detail, time.monotonic() - started)
                )
            if not begun and step.effect is not Effect.READ:
                if context.claims is not None:
                    context.claims.take()
                if recorded:
                    self.records.write(stage, State.DEPLOYING, actual, result.data)
                begun = True
            self.step(step, context, result)

        if result.outputs is not None:
            self.records.write_outputs(stage.name, result.outputs)
        if recorded and self.executable.plan.mode is Mode.DEPLOY:
            self.records.write(stage, State.DEPLOYED, actual, result.data)
        report = self.end(
            stage, Result.DONE, stage.detail, time.monotonic() - started, result.summary
        )
        return StageOutcome(report, outputs=result.outputs)

    def look(self, stage: StagePlan) -> None:
        """Run the steps before the first effect of a stage that is to be destroyed."""
        self.progress.stage_begins(stage, alone=True)
        context = self.contexts[stage.name] = self.context_for(stage)
        result = self.results[stage.name] = StageResult.after(context.previous)
        if context.claims is not None:
            context.claims.check(strictly=True)
        for step in self.looks(stage):
            self.step(step, context, result)

    def take_down(self, stage: StagePlan) -> StageOutcome:
        """Destroy a stage that has been looked at."""
        started = time.monotonic()
        context, result = self.contexts[stage.name], self.results[stage.name]
        self.interrupt.check()
        self.records.write(stage, State.DEPLOYING, None, result.data)
        for step in self.executable.steps[stage.name][len(self.looks(stage)) :]:
            self.step(step, context, result)
        self.records.write(stage, State.DESTROYED, None, {})
        if context.claims is not None:
            context.claims.release()
        seconds = time.monotonic() - started
        return StageOutcome(self.end(stage, Result.DONE, "destroyed", seconds, result.summary))

    def looks(self, stage: StagePlan) -> Sequence[Step]:
        """The stage's steps before the first one that is not READ."""
        return tuple(
            takewhile(lambda step: step.effect is Effect.READ, self.executable.steps[stage.name])
        )

    def step(self, step: Step, context: StageContext[Any], result: StageResult) -> None:
        self.interrupt.check()
        stage = context.stage
        before = self.candidates[stage.name].stage.settings
        title = titles.running(step, before, stage.settings, context.outputs)
        self.progress.step(stage.name, title)
        step.run(context, result)

    def context_for(self, stage: StagePlan) -> StageContext[Any]:
        """A stage's context, with its settings resolved. Raises StageError where an output that it
        needs is missing.
        """
        candidate = self.candidates[stage.name]
        known: dict[str, Output] = {}
        for need in self.factory.upstream(stage.name):
            known |= self.outputs.get(need, {})
        for secret in outputs.secrets(known.values()):
            self.redactor.register_value(secret)
        settings = replaced(
            candidate.stage.settings, lambda value: self._resolved(value, stage, known)
        )
        inputs = RunnerInputs(
            outputs=known,
            previous=self.records.last(stage.name),
            line=lambda text: self.progress.line(stage.name, text),
            still_ours=lambda: self._still_ours(stage.name),
            beside=lambda: self._beside(candidate.stage),
            interrupt=self.interrupt,
        )
        resolved = msgspec.structs.replace(candidate.stage, settings=settings)
        return self.factory.context_for(candidate, resolved, inputs)

    def _still_ours(self, stage: str) -> None:
        self.interrupt.check()
        self.records.check(stage)

    def _beside(self, stage: AnyStage) -> dict[str, Mapping[str, Any]]:
        others = [
            p.stage.name
            for p in self.candidates.values()
            if p.stage.kind == stage.kind and p.stage != stage
        ]
        return {
            name: record.data for name in others if (record := self.records.last(name)) is not None
        }

    def _resolved(
        self, value: Reference | str, stage: StagePlan, known: Mapping[str, Output]
    ) -> Any:
        if isinstance(value, str):
            return self.factory.expand(value)
        name = value.output or ""
        # Terraform leaves an output out that is null; where none is known, nothing was applied yet.
        if value.default is not None and known and (name not in known or known[name].value is None):
            return value.default
        if self.executable.plan.mode is Mode.VERIFY and name not in known:
            return value
        try:
            return outputs.text(name, known, stage=stage.name)
        except StageError:
            needed = [
                self.reports[n] for n in self.factory.upstream(stage.name) if n in self.reports
            ]
            if any(report.result is Result.SKIPPED for report in needed):
                raise _Skip(f"its input {name} comes from a stage that was skipped") from None
            raise

    def _record_failure(self, stage: StagePlan) -> None:
        """Where the ledger cannot be told, `deploying` stands, and means the same: due."""
        try:
            if stage.name in self.results:
                self.records.write_failed(stage, self.results[stage.name].data)
        except CipipeError as error:
            self.progress.warning(
                f"the ledger could not be told that {stage.name} failed: {error.message}"
            )

    def end(
        self, stage: StagePlan, result: Result, detail: str, seconds: float = 0.0, made: str = ""
    ) -> StageReport:
        report = StageReport(
            stage.name, stage.kind, result, stage.reason, detail, round(seconds, 1), made
        )
        self.progress.stage_ends(report)
        return report


class _Skip(Exception):
    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
