"""`cipipe run`: connect, plan, refuse what must be refused, hand the plan to the runner."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from cipipe.errors import CipipeError, RefusedError
from cipipe.ledger import Ledger
from cipipe.model import SCHEMA, Mode, Newest, Plan
from cipipe.pipeline.checks.paths import refuse_missing
from cipipe.pipeline.checks.refusals import (
    refuse_dirty,
    refuse_older,
    refuse_other_workspace,
    refuse_ref,
    refuse_stale,
    refuse_unproven,
    refuse_unready,
)
from cipipe.pipeline.checks.tools import missing_tools
from cipipe.pipeline.contexts import StageContexts, stage_contexts
from cipipe.pipeline.identity.access import Access
from cipipe.pipeline.planning.plan import PlanOptions, PlanResult, plan, shown
from cipipe.pipeline.session import Session
from cipipe.progress import Progress
from cipipe.records import Records
from cipipe.report.plan_file import PlanFile
from cipipe.results import Report, Result, StageReport
from cipipe.runner import Runner
from cipipe.stagework import StageWork


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says about a run."""

    planning: PlanOptions
    # How many stages run at the same time, at most.
    jobs: int = 4
    allow_rollback: bool = False
    allow_replace: bool = False
    allow_empty: bool = False
    # The plan that was reviewed: nothing else is run.
    expected: PlanFile | None = None
    # Succeed without doing anything, instead of refusing, where a newer
    # pipeline has deployed, or where a needed stage is due and not
    # selected.
    if_newest: bool = False
    if_ready: bool = False

    @property
    def forgiven(self) -> dict[str, str]:
        """The refusals, by error id, with which the run succeeds, each with what it means."""
        found = {}
        if self.if_newest:
            found["older-pipeline"] = "there is nothing left to do for this one"
        if self.if_ready:
            found["needed-stage-due"] = "left to the last job of this pipeline"
        return found

    @property
    def whole(self) -> bool:
        """Whether the run is for everything that a change makes due."""
        return not self.planning.selected


class Outcome(msgspec.Struct, frozen=True):
    """A report, and the error that made the run fail, if one did."""

    report: Report
    error: CipipeError | None = None


def run(
    session: Session,
    options: RunOptions,
    *,
    planned: Callable[[Plan], None],
    meanwhile: Callable[[Access], None] = lambda _: None,
) -> Outcome:
    """Run what is due. Raises CipipeError where nothing was started.

    `planned` gets the plan before anything starts; `meanwhile` is called
    while the plan is made.
    """
    # Before connecting: a ref that may not deploy gets no credentials.
    refuse_ref(session, options.planning.mode)
    access = session.connect(options.planning.mode)
    ledger = session.ledger(access)
    result = plan(session, options.planning, ledger, lambda: meanwhile(access))
    try:
        refuse(session, options, result, ledger)
    except RefusedError as error:
        why = options.forgiven.get(error.id)
        if why is None:
            raise
        return _skipped(result.executable.plan, error, why, session.progress)

    planned(shown(session.project, result))
    for warning in result.executable.plan.warnings:
        session.progress.warning(warning)
    with stage_contexts(
        session,
        result,
        access,
        missing=frozenset(missing_tools(session, result)),
        allow_replace=options.allow_replace,
        allow_empty=options.allow_empty,
    ) as contexts:
        runner = Runner(work_of(contexts, ledger), jobs=options.jobs)
        report = runner.deploy()
        if options.whole:
            _keep_newest(contexts, report, ledger, over_newer=options.allow_rollback)
        return Outcome(report, runner.error)


def refuse(session: Session, options: RunOptions, result: PlanResult, ledger: Ledger) -> None:
    """Raise RefusedError where this plan may not be run. The ref was checked before planning."""
    project = session.project
    mode = options.planning.mode
    if options.expected is not None:
        refuse_stale(result.executable.plan, options.expected)
    refuse_missing(project, result, allow_empty=options.allow_empty)
    if not options.planning.worktree:
        refuse_dirty(project, result)
    refuse_other_workspace(project, result)
    refuse_older(
        project,
        result,
        allowed=options.allow_rollback,
        newest=lambda provider: ledger.read_newest(provider)[0],
    )
    # The sandbox lacks tools, and so skips stages that others need.
    if mode is Mode.DEPLOY and not session.sandbox:
        refuse_unready(result)
    # Last, because it connects to another environment.
    if mode is Mode.DEPLOY:
        refuse_unproven(session, result)


def work_of(
    contexts: StageContexts,
    ledger: Ledger,
    *,
    restored: Mapping[str, str | None] = MappingProxyType({}),
) -> StageWork:
    """What a runner needs to run the stages of a plan. `restored`: see `StageWork`."""
    session = contexts.session
    result = contexts.result
    executable = result.executable
    return StageWork(
        executable=executable,
        candidates=result.snapshot.candidates,
        records=Records(ledger, executable.plan, session.project.context, stored=result.stored),
        factory=contexts,
        restored=restored,
        redactor=session.redactor,
        progress=session.progress,
        outputs={name: dict(outputs) for name, outputs in result.outputs.items()},
        interrupt=session.interrupt,
    )


def _skipped(plan: Plan, error: RefusedError, why: str, progress: Progress) -> Outcome:
    """The outcome of a run that skips all of its stages and still succeeds."""
    progress.warning(f"{error.message}: {why}")
    skipped = tuple(
        StageReport(
            name=stage.name,
            kind=stage.kind,
            result=Result.SKIPPED,
            reason=stage.reason,
            detail=error.message,
            seconds=0.0,
        )
        for stage in plan.stages
    )
    return Outcome(
        Report(
            project=plan.project,
            environment=plan.environment,
            mode=plan.mode,
            commit=plan.commit,
            stages=skipped,
        )
    )


def _keep_newest(
    contexts: StageContexts, report: Report, ledger: Ledger, *, over_newer: bool
) -> None:
    """Record in the ledger that this pipeline has deployed the whole
    environment.

    Nothing may have been due, and then no stage's record names this
    pipeline: an older one that is still running could otherwise deploy over
    it.
    """
    context = contexts.session.project.context
    if context.mode is Mode.VERIFY or context.sequence is None:
        return
    candidates = contexts.result.snapshot.candidates
    results = {
        stage.result for stage in report.stages if candidates[stage.name].stage.when == "due"
    }
    if not results <= {Result.DONE, Result.UNCHANGED}:
        return
    newest = Newest(
        schema=SCHEMA,
        provider=context.provider,
        sequence=context.sequence,
        commit=report.commit,
        pipeline_url=context.pipeline_url,
    )
    ledger.write_newest(newest, over_newer=over_newer)
