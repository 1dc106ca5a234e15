"""One stage on its own: planned, due or not, with the outputs that the ledger has."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from cipipe.errors import UsageError
from cipipe.ledger import Ledger
from cipipe.model import Mode, StagePlan
from cipipe.pipeline import running
from cipipe.pipeline.contexts import StageContexts, stage_contexts
from cipipe.pipeline.identity.access import Access
from cipipe.pipeline.planning.plan import PlanOptions, PlanResult, plan
from cipipe.pipeline.session import Session
from cipipe.stages.context import StageContext
from cipipe.stagework import StageWork, as_stage_error


@dataclass(frozen=True, kw_only=True)
class Alone:
    """One stage, planned, and what it takes to run it."""

    contexts: StageContexts
    access: Access
    ledger: Ledger
    work: StageWork

    @property
    def stage(self) -> StagePlan:
        (stage,) = self.contexts.result.executable.plan.stages
        return stage

    def context(self) -> StageContext[Any]:
        return self.work.context_for(self.stage)


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """How a stage is opened."""

    # Plan the files on disk.
    worktree: bool = False
    # Use the verify role where there is one: nothing is written.
    read_only: bool = False
    # Plan as a run with these options does, and refuse what it refuses.
    refusing: running.RunOptions | None = None
    # Called when the ledger has answered, so that other requests can start.
    meanwhile: Callable[[Access], None] = lambda _: None


@contextlib.contextmanager
def opened(session: Session, stage: str, how: Opening) -> Iterator[Alone]:
    """Plan the stage alone. Nothing is run."""
    access = session.connect(Mode.DEPLOY, read_only=how.read_only)
    ledger = session.ledger(access)
    options = PlanOptions(mode=Mode.DEPLOY, worktree=how.worktree, selected=frozenset({stage}))
    result: PlanResult = plan(
        session,
        how.refusing.planning if how.refusing else options,
        ledger,
        meanwhile=lambda: how.meanwhile(access),
    )
    if how.refusing is not None:
        running.refuse(session, how.refusing, result, ledger=ledger)
    allow_empty = how.refusing is not None and how.refusing.allow_empty
    with stage_contexts(session, result, access, allow_empty=allow_empty) as contexts:
        work = running.work_of(contexts, ledger)
        yield Alone(contexts=contexts, access=access, ledger=ledger, work=work)


def run_options(
    session: Session, stage: str, *, allow_rollback: bool, allow_empty: bool = False
) -> running.RunOptions:
    """Those of `cipipe run STAGE --force STAGE`."""
    names = frozenset({stage})
    return running.RunOptions(
        planning=PlanOptions(mode=session.project.context.mode, selected=names, forced=names),
        allow_rollback=allow_rollback,
        allow_empty=allow_empty,
    )


@contextlib.contextmanager
def in_stage() -> Iterator[None]:
    """Errors as in a run, where they are those of a stage and not of the command line."""
    try:
        yield
    except UsageError as error:
        raise as_stage_error(error) from None
