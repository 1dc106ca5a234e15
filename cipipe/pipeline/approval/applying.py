"""`cipipe iac apply --plan ID`: apply a plan that was saved and approved,
exactly that one, once.
"""

import dataclasses
from collections.abc import Callable

import msgspec

from cipipe.approvals import ApprovedPlan, stage_of
from cipipe.model import Plan
from cipipe.pipeline import running
from cipipe.pipeline.alone import Opening, opened, run_options
from cipipe.pipeline.approval.checks import refuse, refuse_environment
from cipipe.pipeline.approval.situation import saved_plans, situation
from cipipe.pipeline.checks.refusals import refuse_ref
from cipipe.pipeline.planning.stage_lookup import stage_of_kind
from cipipe.pipeline.session import Session
from cipipe.planner import ExecutablePlan
from cipipe.runner import Runner
from cipipe.stages import terraform as kind


def apply(
    session: Session, id: str, *, allow_rollback: bool, planned: Callable[[Plan], None]
) -> running.Outcome:
    """Apply a saved plan, and record that as a run does.

    Everything that can be checked without Terraform is checked before it is
    started, and nothing is written before everything was checked. Raises
    RefusedError, ConflictError.
    """
    project = session.project
    refuse_environment(id, session.environment_name)
    stage = stage_of_kind(project.config, kind.NAME, stage_of(id))
    options = run_options(session, stage, allow_rollback=allow_rollback)
    refuse_ref(session, options.planning.mode)
    with opened(session, stage, Opening(refusing=options)) as alone:
        here = situation(alone)
        store = saved_plans(alone.ledger, here.place)
        stored = store.read(id)
        refuse(stored.plan, here)
        approved = ApprovedPlan(
            plan=stored.plan,
            body=store.body(stored.plan),
            use=lambda: store.use(stored, by=_who(session)),
        )

        contexts = alone.contexts
        before = contexts.result
        candidate = before.snapshot.candidates[stage]
        settled = project.config.for_run(candidate.stage, session.environment_name)
        steps = kind.approved_steps(settled, approved)
        shown = msgspec.structs.replace(
            alone.stage,
            detail=f"the saved plan {id} was approved",
            steps=tuple(step.title for step in steps),
        )
        whole = msgspec.structs.replace(before.executable.plan, stages=(shown,))
        planned(whole)
        result = msgspec.structs.replace(before, executable=ExecutablePlan(whole, {stage: steps}))
        work = running.work_of(dataclasses.replace(contexts, result=result), alone.ledger)
        runner = Runner(work)
        return running.Outcome(runner.deploy(), runner.error)


def _who(session: Session) -> str:
    context = session.project.context
    return context.pipeline_url or context.actor or f"a job of {context.provider}"
