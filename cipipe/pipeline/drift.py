"""`cipipe drift`: what is deployed, compared with what the ledger says. Reads only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cipipe import interrupt, machine
from cipipe.errors import CipipeError, InterruptedRun, ProblemsError
from cipipe.model import Mode, Record, StagePlan, State
from cipipe.pipeline import running
from cipipe.pipeline.contexts import StageContexts, stage_contexts
from cipipe.pipeline.deployed import deployed_context, deployed_stage
from cipipe.pipeline.planning.plan import PlanOptions, plan
from cipipe.pipeline.planning.stage_lookup import check_names, recorded_stages
from cipipe.pipeline.session import Session
from cipipe.results import DriftFinding, DriftReport, StageDrift
from cipipe.stages import KINDS
from cipipe.stages.context import StageContext
from cipipe.stagework import StageWork
from cipipe.terminal import lines

_AT_ONCE = 4
"""Stages that are compared at the same time."""


def drift(session: Session, names: Sequence[str]) -> DriftReport:
    """Compare the named stages, or all, each with its record.

    A stage that cannot be compared does not keep the others from it: that
    is a finding too. Raises CipipeError where the ledger cannot be read.
    """
    config = session.project.config
    check_names(config, names)
    recorded = [
        name for name in recorded_stages(config) if KINDS[config.stages[name].kind].HAS_DRIFT
    ]
    selected = [name for name in recorded if not names or name in names]
    stages: tuple[StageDrift, ...] = ()
    findings: tuple[DriftFinding, ...] = ()
    if selected:
        access = session.connect(Mode.DEPLOY, read_only=True)
        ledger = session.ledger(access)
        options = PlanOptions(mode=Mode.DEPLOY, selected=frozenset(selected))
        result = plan(session, options, ledger)
        with stage_contexts(session, result, access) as contexts:
            comparison = _Comparison(contexts, running.work_of(contexts, ledger))
            found = interrupt.attend(session.interrupt, comparison.all)
        if session.interrupt.happened:
            raise InterruptedRun("interrupted", "interrupted; nothing was changed")
        stages = tuple(stage for stage, _ in found)
        findings = tuple(finding for _, some in found for finding in some)
    return DriftReport(
        project=config.project.name,
        environment=session.environment_name,
        stages=stages,
        findings=findings,
    )


@dataclass(frozen=True)
class _Comparison:
    contexts: StageContexts
    work: StageWork

    def all(self) -> list[tuple[StageDrift, list[DriftFinding]]]:
        """Each stage with its findings, in the order of the plan."""
        from concurrent.futures import ThreadPoolExecutor

        stages = self.work.executable.plan.stages
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="stage") as pool:
            return list(pool.map(self._stage, stages))

    def _stage(self, stage: StagePlan) -> tuple[StageDrift, list[DriftFinding]]:
        record = self._records.get(stage.name)
        about = StageDrift(
            name=stage.name,
            kind=stage.kind,
            state=record.state.value if record else "never-deployed",
            commit=record.commit if record else None,
        )
        if record is None or record.state is State.DESTROYED:
            return about, []
        if record.state is not State.DEPLOYED:
            unfinished = DriftFinding.unchecked(
                stage.name,
                "its last deployment",
                f"it is {record.state.value} since {record.since}, so nobody knows what is there",
                f"Finish it: cipipe run --env {self.contexts.session.environment_name}",
            )
            return about, [unfinished]
        return about, self._findings(stage, record)

    def _findings(self, stage: StagePlan, record: Record) -> list[DriftFinding]:
        found: list[DriftFinding] = []
        try:
            self.work.interrupt.check()
            context = self._context(stage, record)
            for finding in KINDS[context.stage.kind].drift(context, self._records):
                found.append(finding)  # noqa: PERF402 - what was found before an error counts
        except KeyboardInterrupt:
            self.work.interrupt.trigger()
        except (CipipeError, OSError) as raised:
            error = raised if isinstance(raised, CipipeError) else machine.fault(raised)
            if error is None:
                raise
            found.append(self._unchecked(stage, error))
        return found

    def _context(self, stage: StagePlan, record: Record) -> StageContext[Any]:
        """The context with what was deployed, if this clone has it; else with HEAD's."""
        now = self.work.candidates[stage.name]
        if now.fingerprint != record.fingerprint:
            repository = self.contexts.session.project.repository
            commit = repository.commit(record.commit) if record.commit else None
            try:
                then = deployed_stage(self.contexts, record, commit)
            except CipipeError as error:
                # The kind says so, where it needs the files.
                self.work.progress.line(stage.name, f"the deployed commit: {error.message}")
                then = None
            if then is not None:
                return deployed_context(self.work, then)
        return self.work.context_for(stage)

    def _unchecked(self, stage: StagePlan, error: CipipeError) -> DriftFinding:
        problem = error.problems[0] if isinstance(error, ProblemsError) else None
        about = problem or error
        message = self.work.redactor.text(about.message)
        return DriftFinding.unchecked(
            stage.name,
            about.where or f"stage {stage.name}",
            f"{next(iter(lines(message)), '')} ({about.id})",
            about.hint or "Repeat it with -v, and look at the lines of the stage.",
        )

    @property
    def _records(self) -> Mapping[str, Record]:
        stored = self.contexts.result.stored
        return {name: found.record for name, found in stored.items() if found is not None}
