"""`cipipe image build` and `push`: the stage's own steps, without the rest of a run."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from cipipe.errors import CipipeError
from cipipe.model import Mode, Plan
from cipipe.pipeline import running
from cipipe.pipeline.alone import run_options
from cipipe.pipeline.checks.refusals import refuse_dirty
from cipipe.pipeline.contexts import stage_contexts
from cipipe.pipeline.identity.access import Access, can_connect, child_environment
from cipipe.pipeline.planning.plan import PlanOptions, plan
from cipipe.pipeline.session import Session
from cipipe.stages.context import StageResult
from cipipe.stages.image.daemon import daemon
from cipipe.stages.image.names import content_tag, local_name
from cipipe.stages.image.steps import build_steps
from cipipe.tools.aws.clients import Aws

if TYPE_CHECKING:
    from cipipe.ledger import Ledger


class BuiltImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image on this machine."""

    stage: str
    # With its tag.
    name: str
    tag: str
    commit: str
    # `sha256:…`: the digest of its configuration, not that of a registry.
    id: str
    # Bytes, of all layers.
    size: int


def build(session: Session, stage: str) -> BuiltImage:
    """Build the image of HEAD and try it. Pushes nothing, and needs no AWS:
    without it, an image whose repository is an output gets a local name.

    Raises StageError.
    """
    target = session.target
    access, ledger = _access(session, can_connect(session.project, target))
    names = frozenset({stage})
    options = PlanOptions(mode=Mode.VERIFY, selected=names, forced=names)
    result = plan(session, options, ledger)
    refuse_dirty(session.project, result)
    with stage_contexts(session, result, access) as contexts:
        # Without a ledger nothing is read from it: only records are written
        # there, and this writes none.
        work = running.work_of(contexts, ledger)  # type: ignore[arg-type]
        (planned,) = result.executable.plan.stages
        context = work.context_for(planned)
        kept = StageResult()
        for step in build_steps(context.stage, tag=content_tag(context)):
            session.progress.step(stage, step.title)
            step.run(context, kept)
        name = local_name(context)
        found = daemon(context).described(name)
    return BuiltImage(
        stage=stage,
        name=name,
        tag=name.rpartition(":")[2],
        commit=context.commit,
        id=found.id,
        size=found.size,
    )


def push(
    session: Session, stage: str, *, allow_rollback: bool, planned: Callable[[Plan], None]
) -> running.Outcome:
    """Run the stage: `cipipe run STAGE --force STAGE`, with all checks that a run has."""
    options = run_options(session, stage, allow_rollback=allow_rollback)
    return running.run(session, options, planned=planned)


def _access(session: Session, connect: bool) -> "tuple[Access, Ledger | None]":
    if connect:
        try:
            access = session.connect(Mode.DEPLOY, read_only=True)
        except CipipeError as error:
            session.say(f"building without AWS: {error.message}")
        else:
            return access, session.ledger(access)
    endpoint = session.endpoint()
    env = child_environment(
        project=session.project,
        environment=session.environment,
        endpoint=endpoint,
        credentials=None,
        target=session.target,
    )
    return Access(Aws(endpoint, None), env), None
