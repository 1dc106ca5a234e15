"""`cipipe destroy`: what the ledger says is there, taken down in the reverse order."""

from cipipe.model import Baseline, Mode, Plan, Reason, StagePlan, State, Status
from cipipe.pipeline.checks.paths import refuse_missing
from cipipe.pipeline.checks.refusals import refuse_destroy, refuse_other_workspace, refuse_ref
from cipipe.pipeline.contexts import Place, ledger_of
from cipipe.pipeline.identity.access import AwsTarget, connect
from cipipe.pipeline.identity.profile import served
from cipipe.pipeline.planning import Planning, snapshot
from cipipe.pipeline.project import Project
from cipipe.pipeline.running import Outcome, lacking, missing_tools, scratch_folder, work_of
from cipipe.planner import Candidate, ExecutablePlan
from cipipe.redact import Redactor
from cipipe.runner import Runner
from cipipe.stagework import Progress
from cipipe.titles import steps_of


def destroy(
    project: Project,
    name: str,
    *,
    redactor: Redactor,
    progress: Progress,
    confirm: str | None,
    allow_destroy: bool = False,
    target: AwsTarget | None = None,
) -> Outcome:
    """Take an environment down, in reverse order. Raises RefusedError before any call to AWS."""
    refuse_destroy(project, name, confirm, allow_destroy=allow_destroy)
    refuse_ref(project, name, Mode.DESTROY)
    project = project.at(name)
    access = connect(project, name, Mode.DESTROY, redactor=redactor, target=target)
    ledger = ledger_of(project, name, access)
    shot = snapshot(project)
    recorded = [n for n, candidate in shot.candidates.items() if candidate.stage.when == "due"]
    held = ledger.read(recorded)
    stages, steps = [], {}
    for stage_name in reversed(recorded):
        candidate, found = shot.candidates[stage_name], held[stage_name]
        there = found is not None and found.record.state is not State.DESTROYED
        steps[stage_name] = steps_of(
            project.config, name, candidate.stage, Mode.DESTROY, tag=candidate.tag
        )
        if not there:
            steps[stage_name] = ()
        stages.append(
            _to_destroy(
                candidate, there=there, steps=tuple(step.title for step in steps[stage_name])
            )
        )
    outputs = {
        n: ledger.read_outputs(n) or {}
        for n in recorded
        if shot.candidates[n].stage.kind == "terraform" and held[n] is not None
    }
    whole = Plan(
        project=project.config.project.name,
        environment=name,
        mode=Mode.DESTROY,
        provider=project.context.provider,
        commit=shot.commit,
        baseline=Baseline("ledger"),
        stages=tuple(stages),
    )
    planning = Planning(ExecutablePlan(whole, steps), shot, held, outputs)
    refuse_other_workspace(project, planning)
    refuse_missing(project, planning)
    missing = missing_tools(project, planning, target)
    if missing:
        raise lacking(missing)
    with scratch_folder(project) as scratch, served(access, progress.warning) as access:
        place = Place(project, planning, access, redactor, scratch, sandbox=target is not None)
        runner = Runner(work_of(planning, place, ledger, progress))
        return Outcome(runner.destroy(), runner.error)


def _to_destroy(candidate: Candidate, *, there: bool, steps: tuple[str, ...]) -> StagePlan:
    return StagePlan(
        name=candidate.stage.name,
        kind=candidate.stage.kind,
        status=Status.DUE if there else Status.UNCHANGED,
        reason=Reason.FORCED if there else Reason.UNCHANGED,
        detail="destroy was asked for" if there else "nothing of it is deployed",
        fingerprint=candidate.fingerprint,
        deployed_fingerprint=None,
        paths=(),
        needs=candidate.stage.needs,
        steps=steps,
    )
