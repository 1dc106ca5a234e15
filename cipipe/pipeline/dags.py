"""The use cases of `cipipe dags`: one `dags` stage on its own.

Each plans that stage, due or not, with the outputs that the ledger has.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from cipipe.errors import RefusedError
from cipipe.model import Mode, Plan, Reason, Record, State, Status
from cipipe.pipeline import running
from cipipe.pipeline.alone import Alone, Opening, in_stage, run_options
from cipipe.pipeline.alone import opened as opened_alone
from cipipe.pipeline.checks.refusals import refuse_ref
from cipipe.pipeline.identity.access import Access
from cipipe.pipeline.session import Session
from cipipe.planner import ExecutablePlan
from cipipe.runner import Runner
from cipipe.stages import dags as kind
from cipipe.stages import image
from cipipe.stages.context import StageResult, Step

if TYPE_CHECKING:
    from cipipe.stages.dags.bucket.inventory import Inventory
    from cipipe.stages.dags.diff import BucketDiff


def diff(session: Session, stage: str, *, worktree: bool = False) -> "BucketDiff":
    """What deploying HEAD, or the files on disk, would change in the bucket. Writes nothing."""
    from cipipe.stages.dags.diff import preview

    with _opened(session, stage, worktree=worktree, read_only=True) as opened, in_stage():
        context = opened.context()
        return preview(context, StageResult.after(context.previous))


def deploy(
    session: Session,
    stage: str,
    *,
    allow_empty: bool,
    allow_rollback: bool,
    planned: Callable[[Plan], None],
) -> running.Outcome:
    """Run the stage: `cipipe run STAGE --force STAGE`, with all checks that a run has."""
    return running.run(
        session,
        run_options(session, stage, allow_empty=allow_empty, allow_rollback=allow_rollback),
        planned=planned,
        meanwhile=lambda access: _look_ahead(session, stage, access),
    )


def dry_run(
    session: Session, stage: str, *, allow_empty: bool, allow_rollback: bool
) -> "BucketDiff":
    """What `deploy` would change in the bucket. Raises what it raises before its first write."""
    from cipipe.stages.dags.diff import preview

    options = run_options(session, stage, allow_empty=allow_empty, allow_rollback=allow_rollback)
    refuse_ref(session, options.planning.mode)
    with _opened(session, stage, read_only=True, refusing=options) as opened, in_stage():
        context = opened.context()
        result = StageResult.after(context.previous)
        for step in opened.work.leading_reads(opened.stage):
            step.run(context, result)
        # The steps have printed the warnings already.
        return msgspec.structs.replace(preview(context, result), warnings=())


def status(session: Session, stage: str) -> "Inventory":
    """What the manifest says is in the bucket, beside what is there."""
    from cipipe.stages.dags.bucket.inventory import Inventory, inventory

    with _opened(session, stage, read_only=True) as opened:
        record = opened.work.records.last(stage)
        if record is None:
            return Inventory(stage=stage, state="never-deployed")
        if record.state is State.DESTROYED:
            return Inventory(stage=stage, state=record.state.value)
        return inventory(opened.context(), record)


def rollback(session: Session, stage: str, to: str | None) -> running.Outcome:
    """Restore the object versions of an earlier manifest.

    The record afterwards says what it said then: that commit, that
    fingerprint.
    """
    from cipipe.stages.dags.rollback import choose, steps

    if session.project.context.mode is not Mode.DEPLOY:
        raise RefusedError(
            "dags-rollback-verify",
            "a merge or pull request deploys nothing, and rolls nothing back",
            where="rollback",
        )
    refuse_ref(session, Mode.DEPLOY)
    with _opened(session, stage) as opened:
        candidates = opened.contexts.result.snapshot.candidates
        # Read again: the plan read them before it knew that something would
        # be written.
        stored = opened.ledger.read(
            [name for name, found in candidates.items() if found.stage.kind == kind.NAME]
        )
        target = choose(_offered(session, opened, stage), to)

        project = session.project
        settled = project.config.for_run(candidates[stage].stage, session.environment_name)
        executable = _going_back(opened, target, steps(settled, target))
        before = opened.contexts.result
        result = msgspec.structs.replace(
            before, executable=executable, stored={**before.stored, **stored}
        )
        contexts = dataclasses.replace(opened.contexts, result=result)
        restored = {stage: target.effective}
        runner = Runner(running.work_of(contexts, opened.ledger, restored=restored))
        return running.Outcome(runner.deploy(), runner.error)


def _offered(session: Session, opened: Alone, stage: str) -> Iterator[Record]:
    """The stage's records, newest first, as far back as the images are
    kept that their DAGs run.
    """
    stages = session.project.config.stages
    images = [name for name, other in stages.items() if other.kind == image.NAME]
    limits = [
        str(stored.record.data.get("offered_since") or "")
        for stored in opened.ledger.read(images).values()
        if stored is not None
    ]
    since = max(limits, default="")
    for number, record in enumerate(opened.ledger.history(stage)):
        # What is deployed now always counts.
        if number and since and (record.finished_at or record.started_at) < since:
            return
        yield record


def _going_back(opened: Alone, target: Record, steps: tuple[Step, ...]) -> ExecutablePlan:
    """The plan of a rollback: its record becomes that of the target's commit."""
    commit = target.commit or ""
    stage = msgspec.structs.replace(
        opened.stage,
        status=Status.DUE,
        reason=Reason.FORCED,
        detail=f"back to what {commit[:7]} deployed",
        fingerprint=target.fingerprint,
        steps=tuple(step.title for step in steps),
    )
    before = opened.contexts.result.executable.plan
    whole = msgspec.structs.replace(before, commit=commit, stages=(stage,))
    return ExecutablePlan(whole, {stage.name: steps})


def _opened(
    session: Session,
    stage: str,
    *,
    worktree: bool = False,
    read_only: bool = False,
    refusing: running.RunOptions | None = None,
) -> contextlib.AbstractContextManager[Alone]:
    how = Opening(
        worktree=worktree,
        read_only=read_only,
        refusing=refusing,
        meanwhile=lambda access: _look_ahead(session, stage, access),
    )
    return opened_alone(session, stage, how)


def _look_ahead(session: Session, stage: str, access: Access) -> None:
    """Start to list the bucket: that takes as long as reading the commit does."""
    config = session.project.config
    settings = config.stages[stage].settings
    # A reference is not resolved yet, so nobody knows which bucket it will
    # be.
    if isinstance(settings.bucket, str):
        name = config.expanded(settings.bucket, session.environment_name)
        prefix = config.expanded(settings.prefix, session.environment_name)
        access.aws.bucket(name).look_ahead(prefix)
