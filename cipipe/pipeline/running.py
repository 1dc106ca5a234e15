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
    refuse_older,
    refuse_other_workspace,
    refuse_ref,
    refuse_stale,
    refuse_unproven,
    refuse_unready,
)
from cipipe.pipeline.contexts import Place, ledger_of
from cipipe.pipeline.identity.access import Access, AwsTarget, connect
from cipipe.pipeline.identity.profile import served
from cipipe.pipeline.planning import Options, Planning, plan, refuse_dirty, shown
from cipipe.pipeline.project import Project
from cipipe.records import Records
from cipipe.redact import Redactor
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

    planning: Options
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
    project: Project,
    options: RunOptions,
    *,
    redactor: Redactor,
    progress: Progress,
    planned: Callable[[Plan], None],
    target: AwsTarget | None = None,
    meanwhile: Callable[[Access], None] = lambda _: None,
) -> Outcome:
    """Run what is due. `planned` is told the plan before anything starts. Raises CipipeError where
    nothing was begun.

    `meanwhile` is called while the plan is being made.
    """
    name = options.planning.environment
    project = project.at(name)
    refuse_ref(project, name, options.planning.mode)
    access = connect(project, name, options.planning.mode, redactor=redactor, target=target)
    ledger = ledger_of(project, name, access)
    planning = plan(project, options.planning, ledger, lambda: meanwhile(access))
    try:
        refuse(project, options, planning, ledger, redactor=redactor, target=target)
    except RefusedError as error:
        why = options.forgiven.get(error.id)
        if why is None:
            raise
        return _skipped(planning.executable.plan, error, why, progress)
    planned(shown(project, planning))
    for warning in planning.executable.plan.warnings:
        progress.warning(warning)
    missing = missing_tools(project, planning, target)
    with scratch_folder(project) as scratch, served(access, progress.warning) as access:
        place = Place(
            project=project,
            planning=planning,
            access=access,
            redactor=redactor,
            scratch=scratch,
            missing=frozenset(missing),
            sandbox=target is not None,
            allow_replace=options.allow_replace,
            allow_empty=options.allow_empty,
        )
        runner = Runner(work_of(planning, place, ledger, progress), jobs=options.jobs)
        report = runner.deploy()
        if options.whole:
            _keep_newest(project, planning, report, ledger, over_newer=options.allow_rollback)
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
    project: Project, planning: Planning, report: Report, ledger: Ledger, *, over_newer: bool
) -> None:
    """Have the ledger say that this pipeline has seen to the whole environment, though nothing may
    have been due.

    An older pipeline that is still on its way could otherwise deploy over it: no stage's record
    tells of this one.
    """
    context = project.context
    stages = planning.snapshot.candidates
    ended = {stage.result for stage in report.stages if stages[stage.name].stage.when == "due"}
    if (
        context.mode is Mode.VERIFY
        or context.sequence is None
        or not ended <= {Result.DONE, Result.UNCHANGED}
    ):
        return
    newest = Newest(SCHEMA, context.provider, context.sequence, report.commit, context.pipeline_url)
    ledger.write_newest(newest, over_newer=over_newer)


def refuse(
    project: Project,
    options: RunOptions,
    planning: Planning,
    ledger: Ledger,
    *,
    redactor: Redactor,
    target: AwsTarget | None,
) -> None:
    """Raise RefusedError where this plan may not be run (the ref is looked at before there is one)."""
    if options.expected is not None:
        refuse_stale(planning.executable.plan, options.expected)
    refuse_missing(project, planning, allow_empty=options.allow_empty)
    if not options.planning.worktree:
        refuse_dirty(project, planning)
    refuse_other_workspace(project, planning)
    refuse_older(
        project,
        planning,
        allowed=options.allow_rollback,
        newest=lambda provider: ledger.read_newest(provider)[0],
    )
    if options.planning.mode is Mode.DEPLOY and target is None:
        refuse_unready(planning)
    if options.planning.mode is Mode.DEPLOY:
        refuse_unproven(
            project, planning, options.planning.environment, redactor=redactor, target=target
        )


def work_of(planning: Planning, place: Place, ledger: Ledger, progress: Progress) -> StageWork:
    """What a runner needs to run the stages of a plan."""
    planned = planning.executable
    return StageWork(
        executable=planned,
        candidates=planning.snapshot.candidates,
        records=Records(ledger, planned.plan, place.project.context, planning.held),
        factory=place,
        redactor=place.redactor,
        progress=progress,
        outputs=dict(planning.outputs),
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


def missing_tools(project: Project, planning: Planning, target: AwsTarget | None) -> dict[str, str]:
    """The tools that due stages need and this machine lacks. Outside the sandbox that is an error,
    before anything runs.
    """
    due = [s for s in planning.executable.plan.stages if s.status is not Status.UNCHANGED]
    stages = [planning.snapshot.candidates[s.name].stage for s in due]
    needed = {tool for stage in stages for tool in KINDS[stage.kind].tools(stage)}
    if target is not None:
        return {tool: why for tool, why in target.missing.items() if tool in needed}
    if "terraform" in needed and shutil.which("terraform", path=project.env.get("PATH")) is None:
        raise lacking({"terraform": "developer.hashicorp.com/terraform/install"})
    return {}


def lacking(missing: Mapping[str, str]) -> StageError:
    names = " and ".join(missing)
    hint = "; ".join(f"{tool}: {how}" for tool, how in missing.items())
    return StageError(
        "tool-missing", f"{names} is not installed on this machine; nothing was started", hint=hint
    )
