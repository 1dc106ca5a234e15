"""`cipipe run`: connect, plan, refuse what must be refused, hand the plan to the runner."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from cipipe.errors import CipipeError, RefusedError, StageError
from cipipe.ledger import Ledger
from cipipe.model import SCHEMA, Mode, Newest, Plan, Report, Result, StageReport, Status
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
from cipipe.pipeline.contexts import StageContexts
from cipipe.pipeline.identity.access import Access
from cipipe.pipeline.identity.profile import served
from cipipe.pipeline.planning import PlanOptions, PlanResult, plan, shown
from cipipe.pipeline.project import Project
from cipipe.pipeline.session import Session
from cipipe.records import Records
from cipipe.runner import Runner
from cipipe.stages import KINDS
from cipipe.stagework import Progress, StageWork
from cipipe.tools.own_folder import own_folder


class RunOptions(msgspec.Struct, frozen=True):
    """What the command line says of a run, besides planning. `expected` is the plan that was looked
    at before.

    `jobs` is how many stages run at the same time at most. `if_newest`: where a newer pipeline has
    deployed, end well and do nothing, instead of refusing; `if_ready`: the same where a needed
    stage is due and not selected.
    """

    planning: PlanOptions
    jobs: int = 4
    allow_rollback: bool = False
    allow_replace: bool = False
    expected: Mapping[str, Any] | None = None
    allow_empty: bool = False
    if_newest: bool = False
    if_ready: bool = False

    @property
    def forgiven(self) -> dict[str, str]:
        """The refusals that end the run well, by error id, each with what becomes of its stages."""
        newest = (
            {"older-pipeline": "there is nothing left to do for this one"} if self.if_newest else {}
        )
        ready = (
            {"needed-stage-due": "left to the last job of this pipeline"} if self.if_ready else {}
        )
        return newest | ready

    @property
    def whole(self) -> bool:
        """Whether everything that a change makes due is looked at."""
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

    `planned` gets the plan before anything starts; `meanwhile` is called while the plan is made.
    """
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
    missing = missing_tools(session, result)
    with (
        scratch_folder(session.project) as scratch,
        served(access, session.progress.warning) as access,
    ):
        contexts = StageContexts(
            session=session,
            planning=result,
            access=access,
            scratch=scratch,
            missing=frozenset(missing),
            allow_replace=options.allow_replace,
            allow_empty=options.allow_empty,
        )
        runner = Runner(work_of(contexts, ledger), jobs=options.jobs)
        report = runner.deploy()
        if options.whole:
            _keep_newest(contexts, report, ledger, over_newer=options.allow_rollback)
        return Outcome(report, runner.error)


def _skipped(plan: Plan, error: RefusedError, why: str, progress: Progress) -> Outcome:
    """A run that leaves all of its stages alone, and is no failure."""
    progress.warning(f"{error.message}: {why}")
    skipped = tuple(
        StageReport(stage.name, stage.kind, Result.SKIPPED, stage.reason, error.message, 0.0)
        for stage in plan.stages
    )
    return Outcome(Report(plan.project, plan.environment, plan.mode, plan.commit, skipped))


def _keep_newest(
    contexts: StageContexts, report: Report, ledger: Ledger, *, over_newer: bool
) -> None:
    """Record in the ledger that this pipeline has deployed the whole environment.

    Nothing may have been due, and then no stage's record names this pipeline: an older one that is
    still running could otherwise deploy over it.
    """
    context = contexts.project.context
    if context.mode is Mode.VERIFY or context.sequence is None:
        return
    candidates = contexts.planning.snapshot.candidates
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


def refuse(session: Session, options: RunOptions, result: PlanResult, ledger: Ledger) -> None:
    """Raise RefusedError where this plan may not be run. The ref was checked before planning."""
    project, mode = session.project, options.planning.mode
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
    if mode is Mode.DEPLOY and not session.sandbox:
        refuse_unready(result)
    if mode is Mode.DEPLOY:
        refuse_unproven(session, result)


def work_of(contexts: StageContexts, ledger: Ledger) -> StageWork:
    """What a runner needs to run the stages of a plan."""
    result, session = contexts.planning, contexts.session
    executable = result.executable
    return StageWork(
        executable=executable,
        candidates=result.snapshot.candidates,
        records=Records(ledger, executable.plan, session.project.context, result.held),
        factory=contexts,
        redactor=session.redactor,
        progress=session.progress,
        outputs=dict(result.outputs),
        interrupt=session.interrupt,
    )


@contextlib.contextmanager
def scratch_folder(project: Project) -> Iterator[Path]:
    """A private folder for this run. A killed run could not remove its own, with the plan in it:
    that is done here.
    """
    top = own_folder(project.repository.root) / "run"
    top.mkdir(parents=True, exist_ok=True)
    for left in top.iterdir():
        if not _alive(left.name.partition("-")[0]):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-", dir=top) as folder:
        yield Path(folder)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def missing_tools(session: Session, result: PlanResult) -> dict[str, str]:
    """The tools that due stages need and this machine lacks, with how to get each.

    Outside the sandbox a missing tool is an error before anything runs: StageError `tool-missing`.
    """
    candidates = result.snapshot.candidates
    due = [s.name for s in result.executable.plan.stages if s.status is not Status.UNCHANGED]
    stages = [candidates[name].stage for name in due]
    needed = {tool for stage in stages for tool in KINDS[stage.kind].tools(stage)}
    if session.target is not None:
        return {tool: why for tool, why in session.target.missing.items() if tool in needed}
    path = session.project.env.get("PATH")
    if "terraform" in needed and shutil.which("terraform", path=path) is None:
        raise tool_missing({"terraform": "developer.hashicorp.com/terraform/install"})
    return {}


def tool_missing(missing: Mapping[str, str]) -> StageError:
    """The error for tools that are not installed, each with how to get it."""
    return StageError(
        "tool-missing",
        f"{' and '.join(missing)} is not installed on this machine; nothing was started",
        hint="; ".join(f"{tool}: {how}" for tool, how in missing.items()),
    )
