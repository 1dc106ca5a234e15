"""Plan + tools → Report: the stages that are due, each after those that it
needs.

Stages run side by side where neither needs the other, each in a thread.
What belongs to several of them (reports, outputs, the first error) is
changed only by the thread that schedules.
"""

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from cipipe.errors import BlockedError, CipipeError, InterruptedRun, RefusedError
from cipipe.interrupt import attend
from cipipe.model import StagePlan, Status
from cipipe.results import Report, Result, StageReport
from cipipe.stagework import StageOutcome, StageWork


@dataclass
class Runner:
    """One run of one plan."""

    work: StageWork
    # How many stages may run at the same time.
    jobs: int = 1
    # The first error that a stage failed with.
    error: CipipeError | None = None
    _interrupted: list[str] = field(default_factory=list)

    def deploy(self) -> Report:
        """Run every due stage after those that it needs. A failed stage
        stops only those that need it.
        """
        attend(self.work.interrupt, self._schedule)
        self._report_interrupt()
        return self.report()

    def inspect(self) -> Report:
        """Look at every stage that is to be destroyed, and delete nothing.
        What blocks some of them is the run's error.
        """
        attend(self.work.interrupt, self._inspect)
        self._report_interrupt()
        return self.report()

    def destroy(self) -> Report:
        """Destroy the stages that were inspected, in the order of the plan,
        which is reversed.
        """
        attend(self.work.interrupt, self._destroy)
        self._report_interrupt()
        return self.report()

    def report(self) -> Report:
        plan = self.work.executable.plan
        reports = self.work.reports
        finished = tuple(reports[stage.name] for stage in plan.stages if stage.name in reports)
        found = self.work.results
        not_reached = tuple(
            StageReport(
                name=stage.name,
                kind=stage.kind,
                result=Result.NOT_RUN,
                reason=stage.reason,
                detail="not reached",
                seconds=0.0,
                findings=found[stage.name].findings if stage.name in found else {},
            )
            for stage in plan.stages
            if stage.name not in reports
        )
        return Report(
            project=plan.project,
            environment=plan.environment,
            mode=plan.mode,
            commit=plan.commit,
            stages=finished + not_reached,
        )

    def _schedule(self) -> None:
        waiting = list(self.work.executable.plan.stages)
        running: set[Future[StageOutcome]] = set()

        with ThreadPoolExecutor(self.jobs, thread_name_prefix="stage") as pool:
            while waiting or running:
                ready = self._ready(waiting)
                alone = not running and (len(ready) == 1 or self.jobs == 1)
                for stage in ready[: self.jobs - len(running)]:
                    waiting.remove(stage)
                    self._warn_of_skipped(stage)
                    running.add(
                        pool.submit(self.work.guarded, stage, self.work.deploy, alone=alone)
                    )
                if not running:
                    return

                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._collect(future.result())

    def _ready(self, waiting: list[StagePlan]) -> list[StagePlan]:
        """The stages that can start now.

        One that turns out to have nothing to do is finished here, which may
        free others: that is why this looks again until nothing changes.
        """
        reports = self.work.reports
        plan = self.work.executable.plan
        unfinished = {stage.name for stage in plan.stages if stage.name not in reports}
        ready: list[StagePlan] = []
        again = not self.work.interrupt.happened
        while again:
            again = False
            free = [stage for stage in waiting if unfinished.isdisjoint(stage.needs)]
            for stage in free:
                if stage in ready:
                    continue
                idle = self._idle(stage)
                if idle is None:
                    ready.append(stage)
                else:
                    waiting.remove(stage)
                    unfinished.remove(stage.name)
                    self._collect(StageOutcome(self.work.finished(stage, *idle)))
                    again = True
        return ready

    def _idle(self, stage: StagePlan) -> tuple[Result, str] | None:
        """The result of a stage that does not even start, and why; None for one that does."""
        if stage.status is Status.UNCHANGED:
            return Result.UNCHANGED, stage.detail

        needs = [self.work.reports[need] for need in stage.needs if need in self.work.reports]
        blocked = [r.name for r in needs if r.result in {Result.FAILED, Result.NOT_RUN}]
        if blocked:
            return Result.NOT_RUN, f"needs {' and '.join(blocked)}"

        if not self.work.executable.steps[stage.name]:
            return Result.SKIPPED, f"does nothing in {self.work.executable.plan.mode} mode"

        missing = self.work.factory.missing_tools(self.work.candidates[stage.name].stage)
        if missing:
            return Result.SKIPPED, f"{' and '.join(missing)} is not available here"
        return None

    def _warn_of_skipped(self, stage: StagePlan) -> None:
        reports = self.work.reports
        skipped = [
            need
            for need in stage.needs
            if need in reports and reports[need].result is Result.SKIPPED
        ]
        if skipped:
            self.work.progress.warning(
                f"stage {stage.name} runs although {' and '.join(skipped)} was skipped (sandbox)"
            )

    def _collect(self, outcome: StageOutcome) -> None:
        name = outcome.report.name
        self.work.reports[name] = outcome.report
        if outcome.outputs is not None:
            self.work.outputs[name] = outcome.outputs
        self.error = self.error or outcome.error
        if outcome.interrupted:
            self._interrupted.append(name)
            self.work.interrupt.trigger()

    def _report_interrupt(self) -> None:
        """Make the interrupt the run's error if it kept the run from
        finishing, whatever else failed.
        """
        stages = self.work.executable.plan.stages
        cut_short = self.work.interrupt.happened and len(self.work.reports) < len(stages)
        if not self._interrupted and not cut_short:
            return

        where = " and ".join(self._interrupted)
        plural = "s" if len(self._interrupted) > 1 else ""
        during = f" during stage{plural} {where}" if where else ""
        self.error = InterruptedRun(
            "interrupted",
            f"interrupted{during}; what was running has stopped",
            hint="Run again: unfinished stages are due, and continue where they stopped.",
            where=where or None,
        )

    def _inspect(self) -> None:
        for stage in self.work.executable.plan.stages:
            if stage.status is not Status.UNCHANGED:
                self.work.inspect(stage)

        blockers = [
            blocker for found in self.work.results.values() for blocker in found.preflight.blockers
        ]
        if len(blockers) == 1:
            (one,) = blockers
            self.error = RefusedError(one.id, one.message, hint=one.hint, where=one.where)
        elif blockers:
            self.error = BlockedError(
                "destroy-blocked",
                f"{len(blockers)} things are in the way; nothing was deleted",
                tuple(blockers),
            )

    def _destroy(self) -> None:
        for stage in self.work.executable.plan.stages:
            if stage.status is Status.UNCHANGED:
                report = self.work.finished(stage, Result.UNCHANGED, stage.detail)
                self._collect(StageOutcome(report))
            else:
                self._collect(self.work.guarded(stage, self.work.destroy))
            if self.work.reports[stage.name].result is Result.FAILED:
                return
