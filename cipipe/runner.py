"""Plan + tools → Report: the stages that are due, each after those that it needs.

Stages run side by side where neither needs the other, each in a thread. What belongs to several of
them (reports, outputs, the first error) is changed by the thread that schedules, and by no other.
"""

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from cipipe.errors import CipipeError, InterruptedRun
from cipipe.interrupt import attend
from cipipe.model import Report, Result, StagePlan, StageReport, Status
from cipipe.stagework import StageOutcome, StageWork


@dataclass
class Runner(StageWork):
    """One run of one plan; `jobs` stages at most at the same time. `error` is the first one that a
    stage failed with.
    """

    jobs: int = 1
    error: CipipeError | None = None
    _interrupted: list[str] = field(default_factory=list)

    def deploy(self) -> Report:
        """Run every due stage after those that it needs; one that fails keeps back only what needs
        it.
        """
        attend(self.interrupt, self._schedule)
        self._tell_interrupted()
        return self.report()

    def destroy(self) -> Report:
        """Look at everything first, then take the stages down in the order of the plan (which is
        the reverse one).
        """
        attend(self.interrupt, self._destroy)
        self._tell_interrupted()
        return self.report()

    def report(self) -> Report:
        plan = self.executable.plan
        absent = [s for s in plan.stages if s.name not in self.reports]
        left = tuple(
            StageReport(s.name, s.kind, Result.NOT_RUN, s.reason, "not reached", 0.0)
            for s in absent
        )
        done = tuple(self.reports[s.name] for s in plan.stages if s.name in self.reports)
        return Report(plan.project, plan.environment, plan.mode, plan.commit, done + left)

    def _schedule(self) -> None:
        waiting = list(self.executable.plan.stages)
        running: set[Future[StageOutcome]] = set()
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="stage") as pool:
            while waiting or running:
                ready = self._ready(waiting)
                free = ready[: self.jobs - len(running)]
                alone = not running and (len(ready) == 1 or self.jobs == 1)
                for stage in free:
                    waiting.remove(stage)
                    self._warn_of_skipped(stage)
                    running.add(pool.submit(self.guarded, stage, self.deploy_stage, alone=alone))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._take(future.result())

    def _ready(self, waiting: list[StagePlan]) -> list[StagePlan]:
        """The stages that can start now. Those that turn out to have nothing to do end here, which
        may free others.
        """
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
                    self._take(StageOutcome(self.end(stage, *idle)))
                    again = True
        return ready

    def _unfinished(self, stage: StagePlan) -> bool:
        planned = {other.name for other in self.executable.plan.stages}
        return any(need in planned and need not in self.reports for need in stage.needs)

    def _idle(self, stage: StagePlan) -> tuple[Result, str] | None:
        """How a stage ends that does not even begin, and why; None for one that does."""
        if stage.status is Status.UNCHANGED:
            return Result.UNCHANGED, stage.detail
        needs = [self.reports[n] for n in stage.needs if n in self.reports]
        blocked = [r.name for r in needs if r.result in {Result.FAILED, Result.NOT_RUN}]
        if blocked:
            return Result.NOT_RUN, f"needs {' and '.join(blocked)}"
        if not self.executable.steps[stage.name]:
            return Result.SKIPPED, f"does nothing in {self.executable.plan.mode} mode"
        lacking = self.factory.lacking(self.candidates[stage.name].stage)
        if lacking:
            return Result.SKIPPED, f"{' and '.join(lacking)} is not to be had here"
        return None

    def _warn_of_skipped(self, stage: StagePlan) -> None:
        skipped = [
            n for n in stage.needs if n in self.reports and self.reports[n].result is Result.SKIPPED
        ]
        if skipped:
            self.progress.warning(
                f"stage {stage.name} runs although {' and '.join(skipped)} was skipped (sandbox)"
            )

    def _take(self, ended: StageOutcome) -> None:
        self.reports[ended.report.name] = ended.report
        if ended.outputs is not None:
            self.outputs[ended.report.name] = ended.outputs
        self.error = self.error or ended.error
        if ended.interrupted:
            self._interrupted.append(ended.report.name)
            self.interrupt.trigger()

    def _tell_interrupted(self) -> None:
        """An interrupt is the error of a run that it kept from reaching the end, whatever failed
        besides.
        """
        if self._interrupted or (
            self.interrupt.happened and len(self.reports) < len(self.executable.plan.stages)
        ):
            where = " and ".join(self._interrupted)
            during = (
                f" during stage{'s' if len(self._interrupted) > 1 else ''} {where}" if where else ""
            )
            self.error = InterruptedRun(
                "interrupted",
                f"interrupted{during}; what was running has stopped",
                hint="Run again: what was not finished is due, and what was begun is finished.",
                where=where or None,
            )

    def _destroy(self) -> None:
        for stage in self.executable.plan.stages:
            if stage.status is not Status.UNCHANGED:
                self.look(stage)
        for stage in self.executable.plan.stages:
            if stage.status is not Status.UNCHANGED:
                self._take(self.guarded(stage, self.take_down))
            else:
                self._take(StageOutcome(self.end(stage, Result.UNCHANGED, stage.detail)))
            if self.reports[stage.name].result is Result.FAILED:
                return
