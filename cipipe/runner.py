"""Plan + tools → Report: each stage's steps in order, with the ledger told before the first effect and after the last.

Stages run side by side where neither needs the other, each in a thread. What belongs to several of them (reports,
outputs, the first error) is changed by the thread that schedules, and by no other.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Protocol

import msgspec

from cipipe import outputs
from cipipe.errors import CipipeError, InterruptedRun, StageError, UsageError
from cipipe.fingerprint import consumed, effective
from cipipe.interrupt import Interrupt, attend
from cipipe.model import Effect, Mode, Output, Report, Result, StagePlan, StageReport, State, Status
from cipipe.planner import Planned, Prepared
from cipipe.records import Records
from cipipe.redact import Redactor
from cipipe.stages.base import Reference, Stage, StageRun, Step, replaced


def failing(error: CipipeError) -> CipipeError:
    """An error of a stage's step: what a usage error complains of is in the stage's files, and not on the command line."""
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


class Workplace(Protocol):
    """What a run knows of the project, and the doors that it gives to stages."""

    def upstream(self, stage: str) -> Sequence[str]:
        """All stages that this one needs, directly or not."""
        ...

    def lacking(self, stage: Stage) -> Sequence[str]:
        """The outside tools that the stage needs and that are not to be had here."""
        ...

    def consumes(self, prepared: Prepared) -> frozenset[str]:
        """The Terraform outputs that the stage takes."""
        ...

    def expand(self, text: str) -> str:
        """A setting's text with `{environment}` and the like filled in."""
        ...

    def prepare(self, prepared: Prepared, stage: Stage, **given: Any) -> StageRun:
        """The stage's doors; `stage` has every setting resolved, `given` are fields of StageRun that the runner knows."""
        ...


class Ended(msgspec.Struct, frozen=True):
    """How a stage ended: what is told of it, the error that it failed with, the outputs that it made."""

    report: StageReport
    error: CipipeError | None = None
    outputs: dict[str, Output] | None = None
    interrupted: bool = False


@dataclass
class Runner:
    """One run of one plan; `jobs` stages at most at the same time. `outputs` are those of stages that ran earlier.

    `restored` has the effective digest of a stage that a rollback puts back: it is what was deployed then.
    """

    planned: Planned
    prepared: Mapping[str, Prepared]
    records: Records
    workplace: Workplace
    redactor: Redactor
    progress: Progress
    outputs: dict[str, dict[str, Output]] = field(default_factory=dict)
    jobs: int = 1
    restored: Mapping[str, str | None] = field(default_factory=dict)
    interrupt: Interrupt = field(default_factory=Interrupt)
    error: CipipeError | None = None
    _reports: dict[str, StageReport] = field(default_factory=dict)
    _interrupted: list[str] = field(default_factory=list)
    _runs: dict[str, StageRun] = field(default_factory=dict)  # each stage's own, set and read by its thread

    def deploy(self) -> Report:
        """Run every due stage after those that it needs; one that fails keeps back only what needs it."""
        attend(self.interrupt, self._schedule)
        self._tell_interrupted()
        return self.report()

    def destroy(self) -> Report:
        """Look at everything first, then take the stages down in the order of the plan (which is the reverse one)."""
        attend(self.interrupt, self._destroy)
        self._tell_interrupted()
        return self.report()

    def report(self) -> Report:
        plan = self.planned.plan
        absent = [s for s in plan.stages if s.name not in self._reports]
        left = tuple(StageReport(s.name, s.kind, Result.NOT_RUN, s.reason, "not reached", 0.0) for s in absent)
        done = tuple(self._reports[s.name] for s in plan.stages if s.name in self._reports)
        return Report(plan.project, plan.environment, plan.mode, plan.commit, done + left)

    def _schedule(self) -> None:
        waiting = list(self.planned.plan.stages)
        running: set[Future[Ended]] = set()
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="stage") as pool:
            while waiting or running:
                ready = self._ready(waiting)
                free = ready[: self.jobs - len(running)]
                alone = not running and (len(ready) == 1 or self.jobs == 1)
                for stage in free:
                    waiting.remove(stage)
                    self._warn_of_skipped(stage)
                    running.add(pool.submit(self._guarded, stage, self._deploy, alone=alone))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._take(future.result())

    def _ready(self, waiting: list[StagePlan]) -> list[StagePlan]:
        """The stages that can start now. Those that turn out to have nothing to do end here, which may free others."""
        ready: list[StagePlan] = []
        again = not self.interrupt.happened
        while again:
            again = False
            for stage in [s for s in waiting if s not in ready and not self._unfinished(s)]:
                idle = self._idle(stage)
                if idle is None:
                    ready.append(stage)
                else:
                    waiting.remove(stage)
                    self._take(Ended(self._end(stage, *idle)))
                    again = True
        return ready

    def _unfinished(self, stage: StagePlan) -> bool:
        planned = {other.name for other in self.planned.plan.stages}
        return any(need in planned and need not in self._reports for need in stage.needs)

    def _idle(self, stage: StagePlan) -> tuple[Result, str] | None:
        """How a stage ends that does not even begin, and why; None for one that does."""
        if stage.status is Status.UNCHANGED:
            return Result.UNCHANGED, stage.detail
        needs = [self._reports[n] for n in stage.needs if n in self._reports]
        blocked = [r.name for r in needs if r.result in {Result.FAILED, Result.NOT_RUN}]
        if blocked:
            return Result.NOT_RUN, f"needs {' and '.join(blocked)}"
        if not self.planned.steps[stage.name]:
            return Result.SKIPPED, f"does nothing in {self.planned.plan.mode} mode"
        lacking = self.workplace.lacking(self.prepared[stage.name].stage)
        if lacking:
            return Result.SKIPPED, f"{' and '.join(lacking)} is not to be had here"
        return None

    def _warn_of_skipped(self, stage: StagePlan) -> None:
        skipped = [n for n in stage.needs if n in self._reports and self._reports[n].result is Result.SKIPPED]
        if skipped:
            self.progress.warning(f"stage {stage.name} runs although {' and '.join(skipped)} was skipped (sandbox)")

    def _take(self, ended: Ended) -> None:
        self._reports[ended.report.name] = ended.report
        if ended.outputs is not None:
            self.outputs[ended.report.name] = ended.outputs
        self.error = self.error or ended.error
        if ended.interrupted:
            self._interrupted.append(ended.report.name)
            self.interrupt.trigger()

    def _tell_interrupted(self) -> None:
        """An interrupt is the error of a run that it kept from reaching the end, whatever failed besides."""
        if self._interrupted or (self.interrupt.happened and len(self._reports) < len(self.planned.plan.stages)):
            where = " and ".join(self._interrupted)
            during = f" during stage{'s' if len(self._interrupted) > 1 else ''} {where}" if where else ""
            self.error = InterruptedRun(
                "interrupted",
                f"interrupted{during}; what was running has stopped",
                hint="Run again: what was not finished is due, and what was begun is finished.",
                where=where or None,
            )

    def _guarded(self, stage: StagePlan, work: Callable[..., Ended], **how: Any) -> Ended:
        """Do the work; an error becomes a FAILED report and a `failed` record."""
        started = time.monotonic()
        result, error, interrupted = Result.FAILED, None, False
        try:
            return work(stage, **how)
        except _Skip as skip:
            result, detail = Result.SKIPPED, skip.why
        except CipipeError as failure:
            self._record_failure(stage)
            detail, error = self.redactor.text(failure.message).splitlines()[0], failing(failure)
        except KeyboardInterrupt:
            self._record_failure(stage)
            detail, interrupted = "interrupted", True
        return Ended(self._end(stage, result, detail, time.monotonic() - started), error, interrupted=interrupted)

    def _deploy(self, stage: StagePlan, *, alone: bool) -> Ended:
        started = time.monotonic()
        prepared = self.prepared[stage.name]
        run = self.prepare(stage)
        actual = self.restored.get(stage.name) or effective(
            stage.fingerprint, consumed(run.outputs, self.workplace.consumes(prepared))
        )
        last = self.records.last(stage.name)
        if stage.status is Status.CONDITIONAL and last and last.effective == actual:
            detail = "its inputs turned out the same"
            return Ended(self._end(stage, Result.UNCHANGED, detail, time.monotonic() - started))
        self.progress.stage_begins(stage, alone=alone)
        run.standing = self.records.stands(stage, actual)
        recorded = prepared.stage.when == "due"
        begun = False
        for step in self.planned.steps[stage.name]:
            if run.settled and step.effect is not Effect.READ and self.records.stands(stage, actual, run.data):
                detail = "all of it is there already"
                return Ended(self._end(stage, Result.UNCHANGED, detail, time.monotonic() - started))
            if recorded and not begun and step.effect is not Effect.READ:
                self.records.write(stage, State.DEPLOYING, actual, run.data)
                begun = True
            self._step(run, step)
        if run.made_outputs is not None:
            self.records.write_outputs(stage.name, run.made_outputs)
        if recorded and self.planned.plan.mode is Mode.DEPLOY:
            self.records.write(stage, State.DEPLOYED, actual, run.data)
        report = self._end(stage, Result.DONE, stage.detail, time.monotonic() - started, run.made)
        return Ended(report, outputs=run.made_outputs)

    def _destroy(self) -> None:
        for stage in self.planned.plan.stages:
            if stage.status is not Status.UNCHANGED:
                self.progress.stage_begins(stage, alone=True)
                run = self.prepare(stage)
                for step in self.looks(stage):
                    self._step(run, step)
        for stage in self.planned.plan.stages:
            if stage.status is not Status.UNCHANGED:
                self._take(self._guarded(stage, self._take_down))
            else:
                self._take(Ended(self._end(stage, Result.UNCHANGED, stage.detail)))
            if self._reports[stage.name].result is Result.FAILED:
                return

    def _take_down(self, stage: StagePlan) -> Ended:
        started = time.monotonic()
        run = self._runs[stage.name]
        self.interrupt.check()
        self.records.write(stage, State.DEPLOYING, None, run.data)
        for step in self.planned.steps[stage.name][len(self.looks(stage)) :]:
            self._step(run, step)
        self.records.write(stage, State.DESTROYED, None, {})
        return Ended(self._end(stage, Result.DONE, "destroyed", time.monotonic() - started, run.made))

    def looks(self, stage: StagePlan) -> Sequence[Step]:
        """The stage's steps before the first one that is not READ."""
        return tuple(takewhile(lambda step: step.effect is Effect.READ, self.planned.steps[stage.name]))

    def _step(self, run: StageRun, step: Step) -> None:
        self.interrupt.check()
        self.progress.step(run.stage.name, outputs.filled(step.title, run.outputs))
        step.run(run)

    def prepare(self, stage: StagePlan) -> StageRun:
        """A stage's doors, with its settings resolved. Raises StageError where an output is not to be had."""
        prepared = self.prepared[stage.name]
        known: dict[str, Output] = {}
        for need in self.workplace.upstream(stage.name):
            known |= self.outputs.get(need, {})
        settings = replaced(prepared.stage.settings, lambda value: self._resolved(value, stage, known))
        self._runs[stage.name] = run = self.workplace.prepare(
            prepared,
            msgspec.structs.replace(prepared.stage, settings=settings),
            outputs=known,
            previous=self.records.last(stage.name),
            line=lambda text: self.progress.line(stage.name, text),
            still_ours=lambda: self._still_ours(stage.name),
            beside=lambda: self._beside(prepared.stage),
            interrupt=self.interrupt,
        )
        return run

    def _still_ours(self, stage: str) -> None:
        self.interrupt.check()
        self.records.check(stage)

    def _beside(self, stage: Stage) -> dict[str, Mapping[str, Any]]:
        others = [p.stage.name for p in self.prepared.values() if p.stage.kind == stage.kind and p.stage != stage]
        return {name: record.data for name in others if (record := self.records.last(name)) is not None}

    def _resolved(self, value: Reference | str, stage: StagePlan, known: Mapping[str, Output]) -> Any:
        if isinstance(value, str):
            return self.workplace.expand(value)
        name = value.output or ""
        # Terraform leaves an output out that is null; where none is known, nothing was applied yet.
        if value.default is not None and known and (name not in known or known[name].value is None):
            return value.default
        if self.planned.plan.mode is Mode.VERIFY and name not in known:
            return value
        try:
            return outputs.text(name, known, stage=stage.name)
        except StageError:
            needed = [self._reports[n] for n in self.workplace.upstream(stage.name) if n in self._reports]
            if any(report.result is Result.SKIPPED for report in needed):
                raise _Skip(f"its input {name} comes from a stage that was skipped") from None
            raise

    def _record_failure(self, stage: StagePlan) -> None:
        """Where the ledger cannot be told, `deploying` stands, and means the same: due."""
        try:
            if stage.name in self._runs:
                self.records.write_failed(stage, self._runs[stage.name].data)
        except CipipeError as error:
            self.progress.warning(f"the ledger could not be told that {stage.name} failed: {error.message}")

    def _end(self, stage: StagePlan, result: Result, detail: str, seconds: float = 0.0, made: str = "") -> StageReport:
        report = StageReport(stage.name, stage.kind, result, stage.reason, detail, round(seconds, 1), made)
        self.progress.stage_ends(report)
        return report


class _Skip(Exception):
    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
