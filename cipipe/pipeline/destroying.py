"""`cipipe destroy`: what the ledger says is deployed, removed in reverse order."""

from collections.abc import Callable
from dataclasses import replace

import msgspec

from cipipe.candidates import Candidate
from cipipe.ledger import Ledger
from cipipe.model import Baseline, Mode, Plan, Reason, StagePlan, State, Status
from cipipe.pipeline.checks.paths import refuse_missing
from cipipe.pipeline.checks.refusals import refuse_destroy, refuse_other_workspace, refuse_ref
from cipipe.pipeline.checks.tools import missing_tools, tool_missing
from cipipe.pipeline.contexts import stage_contexts
from cipipe.pipeline.planning.plan import PlanResult
from cipipe.pipeline.planning.snapshot import read_snapshot
from cipipe.pipeline.planning.stage_lookup import recorded_stages
from cipipe.pipeline.running import Outcome, work_of
from cipipe.pipeline.session import Session
from cipipe.planner import ExecutablePlan
from cipipe.results import Report, Result
from cipipe.runner import Runner
from cipipe.stages.context import Step
from cipipe.titles import steps_of

NOTHING_DEPLOYED = "nothing of it is deployed"


class DestroyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says about a destroy."""

    # The environment's name again.
    confirm: str | None = None
    allow_destroy: bool = False
    # Delete what no stage owns, too, where it is in the way.
    empty: bool = False
    # Only say what would be deleted, and what is in the way.
    dry_run: bool = False


def destroy(
    session: Session,
    options: DestroyOptions,
    *,
    inspected: Callable[[Report], None] = lambda _: None,
) -> Outcome:
    """Destroy an environment, in reverse order. Raises RefusedError before
    any call to AWS.

    `inspected` gets what would be lost, before anything is deleted.
    """
    refuse_destroy(
        session, options.confirm, allow_destroy=options.allow_destroy, dry_run=options.dry_run
    )
    if not options.dry_run:
        refuse_ref(session, Mode.DESTROY)
    access = session.connect(Mode.DESTROY, read_only=options.dry_run)
    ledger = session.ledger(access)

    result = _plan(session, ledger)
    refuse_other_workspace(session.project, result)
    refuse_missing(session.project, result)
    missing = missing_tools(session, result)
    # The sandbox skips stages in a run; half an environment must not count
    # as destroyed.
    if missing:
        raise tool_missing(missing)

    with stage_contexts(session, result, access) as made:
        contexts = replace(made, empty=options.empty, dry_run=options.dry_run)
        runner = Runner(work_of(contexts, ledger))
        report = runner.inspect()
        if options.dry_run:
            return Outcome(_dry(report), runner.error)
        inspected(report)
        if runner.error is None:
            report = runner.destroy()
        return Outcome(report, runner.error)


def _dry(report: Report) -> Report:
    """The report of a dry run: nothing has failed, and nothing was deleted."""
    stages = tuple(
        msgspec.structs.replace(stage, result=Result.SKIPPED, detail="dry run: nothing was deleted")
        if stage.findings
        else msgspec.structs.replace(stage, result=Result.UNCHANGED, detail=NOTHING_DEPLOYED)
        for stage in report.stages
    )
    return msgspec.structs.replace(report, stages=stages)


def _plan(session: Session, ledger: Ledger) -> PlanResult:
    """The plan: every stage that the ledger has a record of, last stage first."""
    project = session.project
    snapshot = read_snapshot(project)
    recorded = recorded_stages(project.config)
    stored = ledger.read(recorded)
    stages: list[StagePlan] = []
    steps: dict[str, tuple[Step, ...]] = {}
    for name in reversed(recorded):
        candidate = snapshot.candidates[name]
        found = stored[name]
        deployed = found is not None and found.record.state is not State.DESTROYED
        steps[name] = ()
        if deployed:
            steps[name] = steps_of(
                project.config,
                session.environment_name,
                candidate.stage,
                Mode.DESTROY,
                tag=candidate.tag,
            )
        titles = tuple(step.title for step in steps[name])
        stages.append(_stage_plan(candidate, deployed=deployed, steps=titles))

    with_outputs = [
        stage
        for stage in recorded
        if snapshot.candidates[stage].stage.kind == "terraform" and stored[stage] is not None
    ]
    plan = Plan(
        project=project.config.project.name,
        environment=session.environment_name,
        mode=Mode.DESTROY,
        provider=project.context.provider,
        commit=snapshot.commit,
        baseline=Baseline("ledger"),
        stages=tuple(stages),
    )
    return PlanResult(
        executable=ExecutablePlan(plan, steps),
        snapshot=snapshot,
        stored=stored,
        outputs={name: known or {} for name, known in ledger.read_outputs_of(with_outputs).items()},
    )


def _stage_plan(candidate: Candidate, *, deployed: bool, steps: tuple[str, ...]) -> StagePlan:
    return StagePlan(
        name=candidate.stage.name,
        kind=candidate.stage.kind,
        status=Status.DUE if deployed else Status.UNCHANGED,
        reason=Reason.FORCED if deployed else Reason.UNCHANGED,
        detail="it is destroyed" if deployed else NOTHING_DEPLOYED,
        fingerprint=candidate.fingerprint,
        deployed_fingerprint=None,
        paths=(),
        needs=candidate.stage.needs,
        steps=steps,
    )
