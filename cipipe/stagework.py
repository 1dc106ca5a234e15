"""What happens to one stage of a run: its steps in order, and its record in
the ledger.

The record says `deploying` before the first step that changes anything, and
how the stage finished after the last one.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import msgspec

from cipipe import machine, outputs, titles
from cipipe.candidates import Candidate
from cipipe.errors import (
    CipipeError,
    ConflictError,
    Problem,
    RefusedError,
    StageError,
    UsageError,
)
from cipipe.fingerprint import consumed, effective, is_settled
from cipipe.interrupt import Interrupt
from cipipe.model import Effect, Mode, Output, StagePlan, State, Status
from cipipe.planner import ExecutablePlan
from cipipe.progress import Progress
from cipipe.records import Records
from cipipe.redact import Redactor
from cipipe.results import Result, StageReport
from cipipe.stage_inputs import ContextFactory, InputSkipped, StageInputs
from cipipe.stages.context import RunnerInputs, StageContext, StageResult, Step
from cipipe.stages.settings import AnyStage
from cipipe.terminal import plain


def as_stage_error(error: CipipeError) -> CipipeError:
    """The same error, with the exit status of a failed stage.

    A UsageError in a step is about a file of the stage and not about the
    command line.
    """
    if isinstance(error, UsageError):
        error.exit_status = StageError.exit_status
    return error


class StageOutcome(msgspec.Struct, frozen=True):
    """How a stage finished."""

    report: StageReport
    # The error that it failed with.
    error: CipipeError | None = None
    # The outputs that it produced.
    outputs: dict[str, Output] | None = None
    interrupted: bool = False


@dataclass(kw_only=True)
class StageWork:
    """Runs the stages of one plan, one call for each. Different stages may
    be run by different threads.
    """

    executable: ExecutablePlan
    candidates: Mapping[str, Candidate]
    records: Records
    factory: ContextFactory
    redactor: Redactor
    progress: Progress
    interrupt: Interrupt = field(default_factory=Interrupt)

    # The effective digests of stages that a rollback restores: what was
    # deployed then.
    restored: Mapping[str, str | None] = field(default_factory=dict)

    # The outputs of stages that have been deployed, in this run
    # or before, or that this run has planned, and how the stages of this
    # run finished. Read by every thread, changed only by the one that
    # schedules.
    outputs: dict[str, dict[str, Output]] = field(default_factory=dict)
    reports: dict[str, StageReport] = field(default_factory=dict)

    # Outputs as they are in the states of stages, where a stage needs a
    # sensitive value that the ledger does not keep.
    state_outputs: dict[str, Mapping[str, Output]] = field(default_factory=dict)

    # Of each stage that has started. An entry is used by the stage's own
    # thread only.
    contexts: dict[str, StageContext[Any]] = field(default_factory=dict)
    results: dict[str, StageResult] = field(default_factory=dict)

    def guarded(
        self, stage: StagePlan, work: Callable[..., StageOutcome], **options: Any
    ) -> StageOutcome:
        """Do the work. An error becomes a FAILED report and a `failed` record."""
        started = time.monotonic()
        result = Result.FAILED
        error: CipipeError | None = None
        interrupted = False

        try:
            return work(stage, **options)
        except InputSkipped as skip:
            result = Result.SKIPPED
            detail = skip.reason
        except CipipeError as failure:
            self._record_failure(stage, failure)
            message = plain(self.redactor.text(failure.message)).splitlines()
            detail = message[0] if message else failure.id
            error = as_stage_error(failure)
        except OSError as raised:
            # A full disk, for instance. What no user can fix is a bug, and
            # keeps its traceback.
            error = machine.fault(raised)
            if error is None:
                raise
            self._record_failure(stage, error)
            detail = error.message
        except KeyboardInterrupt:
            self._record_failure(stage)
            detail = "interrupted"
            interrupted = True

        produced = self.results.get(stage.name, StageResult())
        found = StageResult(findings=produced.findings)
        report = self.finished(stage, result, detail, started=started, produced=found)
        return StageOutcome(report, error, interrupted=interrupted)

    def deploy(self, stage: StagePlan, *, alone: bool) -> StageOutcome:
        """Run all steps of a stage, unless its inputs turn out to be what is deployed already."""
        started = time.monotonic()
        candidate = self.candidates[stage.name]
        context = self.context_for(stage)
        result = self.results[stage.name] = StageResult.after(context.previous)
        names = self.factory.consumes(candidate)
        actual = self.restored.get(stage.name) or effective(
            stage.fingerprint, consumed(context.outputs, names)
        )

        last = self.records.last(stage.name)
        same = last is not None and last.effective == actual and is_settled(context.outputs, names)
        # No digest has the value of a sensitive output. One that this run
        # produced may be another than before.
        same = same and not outputs.produced_secret(context.outputs, names)
        if stage.status is Status.CONDITIONAL and same:
            return self._unchanged(stage, "its inputs turned out the same", started)

        self.progress.stage_started(stage, alone=alone)
        is_current = self.records.is_current(stage, actual)
        context = msgspec.structs.replace(context, is_current=is_current)
        # Whoever releases our claim writes `destroyed` first. A record that
        # says something else, and that ours replaces, proves that it is still
        # there.
        claimed = context.ownership is None or (
            context.ownership.check() and last is not None and last.state is not State.DESTROYED
        )

        # Only stages that run when they are due have a record that says
        # what is deployed.
        recorded = candidate.stage.when == "due"
        writing = False
        for step in self.executable.steps[stage.name]:
            if step.effect in {Effect.WRITE, Effect.DESTROY}:
                # The record has to say so too: after a failed run the
                # bucket may be right already while the record is not.
                if result.up_to_date and self.records.is_current(stage, actual, result.data):
                    return self._unchanged(stage, "everything is deployed already", started)
                if not writing:
                    if context.ownership is not None and not claimed:
                        context.ownership.claim()
                    if recorded:
                        self.records.write(
                            stage, State.DEPLOYING, effective=actual, data=result.data
                        )
                    writing = True
            self._run_step(step, context, result)

        # In verify mode, they are those of a plan.
        if result.outputs is not None and self.executable.plan.mode is not Mode.VERIFY:
            self.records.write_outputs(stage.name, result.outputs)
        if recorded and self.executable.plan.mode is Mode.DEPLOY:
            self.records.write(stage, State.DEPLOYED, effective=actual, data=result.data)
        report = self.finished(stage, Result.DONE, stage.detail, started=started, produced=result)
        return StageOutcome(report, outputs=result.outputs)

    def inspect(self, stage: StagePlan) -> None:
        """Run the first steps of a stage that is to be destroyed, which only
        read. A refusal is one of the blockers that they find.
        """
        self.progress.stage_started(stage, alone=True)
        context = self.contexts[stage.name] = self.context_for(stage)
        result = self.results[stage.name] = StageResult.after(context.previous)
        try:
            if context.ownership is not None:
                # A reader may not read claims, and deletes nothing.
                context.ownership.check(strictly=not context.dry_run)
            for step in self.leading_reads(stage):
                self._run_step(step, context, result)
        except RefusedError as error:
            blocker = Problem(error.id, error.message, error.where or stage.name, error.hint)
            result.preflight.blockers.append(blocker)
        result.findings["destroy"] = result.preflight.document

    def destroy(self, stage: StagePlan) -> StageOutcome:
        """Run the other steps of a stage that `inspect` has looked at."""
        started = time.monotonic()
        context = self.contexts[stage.name]
        result = self.results[stage.name]
        self.interrupt.check()

        self.records.write(stage, State.DEPLOYING, effective=None, data=result.data)
        done = len(self.leading_reads(stage))
        for step in self.executable.steps[stage.name][done:]:
            self._run_step(step, context, result)
        self.records.write(stage, State.DESTROYED, effective=None, data={})
        if context.ownership is not None:
            context.ownership.release()

        report = self.finished(stage, Result.DONE, "destroyed", started=started, produced=result)
        return StageOutcome(report)

    def leading_reads(self, stage: StagePlan) -> Sequence[Step]:
        """The stage's steps before the first one that is not READ."""
        steps = self.executable.steps[stage.name]
        return tuple(takewhile(lambda step: step.effect is Effect.READ, steps))

    def context_for(self, stage: StagePlan) -> StageContext[Any]:
        """The context of a stage, with its settings resolved. Raises
        StageError where an output that it needs is missing.
        """
        candidate = self.candidates[stage.name]
        known: dict[str, Output] = {}
        for need in self.factory.upstream(stage.name):
            known |= self.outputs.get(need, {})
        for secret in outputs.secrets(known.values()):
            self.redactor.register_value(secret)

        given = StageInputs(
            plan=self.executable,
            candidates=self.candidates,
            factory=self.factory,
            outputs=self.outputs,
            reports=self.reports,
            results=self.results,
            from_states=self.state_outputs,
        )
        settings = given.settings(stage, known)
        inputs = RunnerInputs(
            outputs=known,
            outputs_complete=given.are_complete(stage),
            previous=self.records.last(stage.name),
            line=lambda text: self.progress.line(stage.name, text),
            still_ours=lambda: self._check_ours(stage.name),
            beside=lambda: self._data_beside(candidate.stage),
            removed=self._removed,
            interrupt=self.interrupt,
        )
        runnable = msgspec.structs.replace(candidate.stage, settings=settings)
        return self.factory.context_for(candidate, runnable, inputs)

    def finished(
        self,
        stage: StagePlan,
        result: Result,
        detail: str,
        *,
        started: float | None = None,
        produced: StageResult | None = None,
    ) -> StageReport:
        """Report how a stage finished. `started` is what `time.monotonic()` said then."""
        seconds = 0.0 if started is None else time.monotonic() - started
        report = StageReport(
            name=stage.name,
            kind=stage.kind,
            result=result,
            reason=stage.reason,
            detail=detail,
            seconds=round(seconds, 1),
            made=produced.summary if produced else "",
            findings=produced.findings if produced else {},
        )
        self.progress.stage_finished(report)
        return report

    def _run_step(self, step: Step, context: StageContext[Any], result: StageResult) -> None:
        self.interrupt.check()
        stage = context.stage
        before = self.candidates[stage.name].stage.settings
        title = titles.in_run(step, before, stage.settings, context.outputs)
        self.progress.step(stage.name, title)
        step.run(context, result)

    def _unchanged(self, stage: StagePlan, detail: str, started: float) -> StageOutcome:
        return StageOutcome(self.finished(stage, Result.UNCHANGED, detail, started=started))

    def _check_ours(self, stage: str) -> None:
        self.interrupt.check()
        self.records.check(stage)

    def _removed(self) -> frozenset[str]:
        """The images that stages delete which are inspected, and so destroyed, earlier."""
        return frozenset().union(*(found.preflight.removes for found in self.results.values()))

    def _data_beside(self, stage: AnyStage) -> dict[str, Mapping[str, Any]]:
        others = [
            candidate.stage.name
            for candidate in self.candidates.values()
            if candidate.stage.kind == stage.kind and candidate.stage != stage
        ]
        records = {name: self.records.last(name) for name in others}
        return {name: record.data for name, record in records.items() if record is not None}

    def _record_failure(self, stage: StagePlan, error: CipipeError | None = None) -> None:
        """Record that this attempt failed. Without an error it was interrupted."""
        recorded = self.candidates[stage.name].stage.when == "due"
        if not recorded or self.executable.plan.mode is Mode.VERIFY:
            return
        try:
            if stage.name in self.results:
                self.records.write_failed(stage, self.results[stage.name].data)
            # What another run takes over is that run's to report.
            if not isinstance(error, ConflictError):
                self.records.note_failure(stage.name, error.id if error else "interrupted")
        except CipipeError as lost:
            # The record keeps saying `deploying`, which makes the stage due
            # as well.
            self.progress.warning(
                f"cannot record in the ledger that {stage.name} failed: {lost.message}"
            )
