"""`cipipe dags`: the `dags` stage on its own. What it would change, what it did, and back again."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from cipipe.errors import RefusedError, UsageError
from cipipe.ledger import Ledger
from cipipe.model import Mode, Plan, Reason, State, Status
from cipipe.pipeline import running
from cipipe.pipeline.checks.refusals import refuse_ref
from cipipe.pipeline.contexts import StageContexts
from cipipe.pipeline.identity.access import Access
from cipipe.pipeline.identity.profile import served
from cipipe.pipeline.planning import PlanOptions, plan
from cipipe.pipeline.project import Project
from cipipe.pipeline.scratch import scratch_folder
from cipipe.pipeline.session import Session
from cipipe.planner import ExecutablePlan
from cipipe.records import Records
from cipipe.runner import Runner
from cipipe.stages import dags as kind
from cipipe.stages.context import StageResult
from cipipe.stagework import StageWork, as_stage_error
from cipipe.titles import in_environment

if TYPE_CHECKING:
    from cipipe.stages.dags.bucket.inventory import Inventory
    from cipipe.stages.dags.diff import BucketDiff


class Call(msgspec.Struct, frozen=True):
    """What every command here is given: where, which stage, and who is told."""

    session: Session
    stage: str

    @property
    def project(self) -> Project:
        return self.session.project

    @property
    def environment(self) -> str:
        return self.session.environment_name


def diff(call: Call, *, worktree: bool = False) -> "BucketDiff":
    """What deploying HEAD (or the files on disk) would change in the bucket. Writes nothing."""
    from cipipe.stages.dags.diff import preview

    with _opened(call, worktree=worktree, read_only=True) as (work, _):
        (stage,) = work.executable.plan.stages
        with _in_stage():
            context = work.context_for(stage)
            return preview(context, StageResult.after(context.previous))


def deploy(
    call: Call, *, allow_empty: bool, allow_rollback: bool, planned: Callable[[Plan], None]
) -> running.Outcome:
    """The stage on its own, due or not: `cipipe run STAGE --force STAGE`, with the safeguards of
    every run.
    """
    options = _alone(call, allow_empty=allow_empty, allow_rollback=allow_rollback)
    return running.run(
        call.session,
        options,
        planned=planned,
        meanwhile=lambda access: _look_ahead(call, access),
    )


def dry_run(call: Call, *, allow_empty: bool, allow_rollback: bool) -> "BucketDiff":
    """What `deploy` would change in the bucket. Raises what it raises before its first write."""
    from cipipe.stages.dags.diff import preview

    options = _alone(call, allow_empty=allow_empty, allow_rollback=allow_rollback)
    refuse_ref(call.session, options.planning.mode)
    with _opened(call, read_only=True, refusing=options) as (work, _):
        (stage,) = work.executable.plan.stages
        context = msgspec.structs.replace(work.context_for(stage), allow_empty=allow_empty)
        result = StageResult.after(context.previous)
        with _in_stage():
            for step in work.leading_reads(stage):
                step.run(context, result)
        return msgspec.structs.replace(
            preview(context, result), warnings=()
        )  # which the steps have told


def status(call: Call) -> "Inventory":
    """What the manifest says is in the bucket, beside what is there."""
    from cipipe.stages.dags.bucket.inventory import Inventory, inventory

    with _opened(call, read_only=True) as (work, _):
        (stage,) = work.executable.plan.stages
        record = work.records.last(call.stage)
        if record is None or record.state is State.DESTROYED:
            return Inventory(
                stage=call.stage, state=record.state.value if record else "never-deployed"
            )
        return inventory(work.context_for(stage), record)


def rollback(call: Call, to: str | None) -> running.Outcome:
    """Restore the object versions of an earlier manifest; the record says afterwards what it said
    then.
    """
    from cipipe.stages.dags import rollback as going_back

    if call.project.context.mode is not Mode.DEPLOY:
        raise RefusedError(
            "dags-rollback-verify",
            "a merge or pull request deploys nothing, and rolls nothing back",
            where="rollback",
        )
    refuse_ref(call.session, Mode.DEPLOY)
    with _opened(call) as (work, ledger):
        (stage,) = work.executable.plan.stages
        held = ledger.read([n for n, p in work.candidates.items() if p.stage.kind == kind.NAME])
        target = going_back.choose(ledger.history(call.stage), to)
        steps = going_back.steps(
            in_environment(
                call.project.config, call.environment, work.candidates[call.stage].stage
            ),
            target,
        )
        back = msgspec.structs.replace(
            stage,
            status=Status.DUE,
            reason=Reason.FORCED,
            detail=f"back to what {(target.commit or '')[:7]} deployed",
            fingerprint=target.fingerprint,
            steps=tuple(step.title for step in steps),
        )
        whole = msgspec.structs.replace(
            work.executable.plan, commit=target.commit or "", stages=(back,)
        )
        runner = Runner(
            dataclasses.replace(
                work,
                executable=ExecutablePlan(whole, {call.stage: steps}),
                records=Records(ledger, whole, call.project.context, stored=held),
                restored={call.stage: target.effective},
            )
        )
        return running.Outcome(runner.deploy(), runner.error)


@contextlib.contextmanager
def _in_stage() -> Iterator[None]:
    """Errors as those of a run, where the stage fails with them."""
    try:
        yield
    except UsageError as error:
        raise as_stage_error(error) from None


def _alone(call: Call, *, allow_empty: bool, allow_rollback: bool) -> running.RunOptions:
    names = frozenset({call.stage})
    planning = PlanOptions(mode=call.project.context.mode, selected=names, forced=names)
    return running.RunOptions(
        planning=planning, allow_rollback=allow_rollback, allow_empty=allow_empty
    )


def _look_ahead(call: Call, access: Access) -> None:
    """Begin to list the bucket: that takes as long as reading the commit does."""
    settings = call.project.config.stages[call.stage].settings
    if isinstance(settings.bucket, str):
        name = call.project.config.expanded(settings.bucket, call.environment)
        access.aws.bucket(name).look_ahead(
            call.project.config.expanded(settings.prefix, call.environment)
        )


@contextlib.contextmanager
def _opened(
    call: Call,
    *,
    worktree: bool = False,
    read_only: bool = False,
    refusing: running.RunOptions | None = None,
) -> Iterator[tuple[StageWork, Ledger]]:
    """Work whose plan is this one stage, with the outputs that the ledger has; nothing is run.

    `refusing`: refuse what a run with these options refuses.
    """
    session = call.session
    access = session.connect(Mode.DEPLOY, read_only=read_only)
    ledger = session.ledger(access)
    options = PlanOptions(mode=Mode.DEPLOY, worktree=worktree, selected=frozenset({call.stage}))
    planning = plan(
        session,
        refusing.planning if refusing else options,
        ledger,
        lambda: _look_ahead(call, access),
    )
    if refusing is not None:
        running.refuse(session, refusing, planning, ledger)
    with (
        scratch_folder(session.project) as scratch,
        served(access, session.progress.warning) as access,
    ):
        contexts = StageContexts(session=session, result=planning, access=access, scratch=scratch)
        yield running.work_of(contexts, ledger), ledger
