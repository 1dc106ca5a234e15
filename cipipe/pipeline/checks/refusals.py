"""What a run or a destroy is refused for, before anything is begun: each a safeguard, with exit
status 5.
"""

from collections.abc import Callable, Mapping
from typing import Any

from cipipe import config
from cipipe.errors import RefusedError
from cipipe.model import Mode, Newest, Plan, Record, StagePlan, State, Status
from cipipe.pipeline.identity.role_session import merge_request_read_only
from cipipe.pipeline.planning import PlanResult, fingerprints_in
from cipipe.pipeline.project import Project
from cipipe.pipeline.session import Session
from cipipe.stages import terraform
from cipipe.terminal import visible
from cipipe.tools.terraform.backend import refuse_workspace_variable


def refuse_ref(session: Session, mode: Mode) -> None:
    """Refuse a job whose ref is none that the environment is deployed from."""
    project, name = session.project, session.environment_name
    if mode is Mode.VERIFY or project.context.provider == "local" or project.may_deploy(name):
        return
    ref = (
        f"{project.context.ref_type} {project.context.ref}"
        if project.context.ref
        else "a job without branch or tag"
    )
    raise RefusedError(
        "ref-not-allowed",
        f"{ref} may not deploy to {name}",
        hint=f"[environments.{name}] deploy_from names the branches and tags that may.",
        where=f"environments.{name}.deploy_from",
    )


def refuse_other_workspace(project: Project, planning: PlanResult) -> None:
    """Refuse TF_WORKSPACE where it contradicts a stage that is to run. Raises UsageError."""
    plan = planning.executable.plan
    for name in [stage.name for stage in plan.stages if stage.status is not Status.UNCHANGED]:
        stage = planning.snapshot.candidates[name].stage
        if stage.kind == terraform.NAME:
            workspace = stage.settings.workspace
            wanted = project.config.expanded(workspace, plan.environment) if workspace else None
            refuse_workspace_variable(project.env, wanted)


def refuse_dirty(project: Project, planning: PlanResult) -> None:
    """A run works with the files on disk: refuse it where they are not those of the commit."""
    due = [s.name for s in planning.executable.plan.stages if s.status != "unchanged"]
    patterns = [planning.snapshot.patterns[name] for name in due]
    dirty = [
        path
        for path in project.repository.dirty()
        if path == project.config_path.encode()
        or any(p.matches_link(path) or p.matches(path + b"-") for p in patterns)
    ]
    if dirty:
        shown = "\n".join(
            f"  {visible(path.decode(errors='backslashreplace'))}" for path in dirty[:10]
        )
        more = f"\n  … and {len(dirty) - 10} more" if len(dirty) > 10 else ""
        raise RefusedError(
            "dirty-work-tree",
            f"files of stages that are due differ from the commit:\n{shown}{more}",
            hint="Commit or stash them. `cipipe plan --worktree` plans the files as they lie on disk.",
        )


def refuse_stale(actual: Plan, expected: Mapping[str, Any]) -> None:
    now = {stage.name: (stage.status.value, stage.fingerprint) for stage in actual.stages}
    then = {stage["name"]: (stage["status"], stage["fingerprint"]) for stage in expected["stages"]}
    same = (actual.environment, actual.commit) == (expected["environment"], expected["commit"])
    if not same or now != then:
        raise RefusedError(
            "plan-stale",
            "what the plan file says is no longer what would be done",
            hint="Plan again, look at it again. Nothing was started.",
            where="--plan",
        )


def refuse_older(
    project: Project,
    planning: PlanResult,
    *,
    allowed: bool,
    newest: Callable[[str], Newest | None] = lambda _: None,
) -> None:
    """Refuse to put an older pipeline's content over a newer one's, or on top of what a newer one
    made.

    `newest` gives the newest pipeline of a provider; it is asked only where something is due.
    """
    context = project.context
    due = [stage for stage in planning.executable.plan.stages if _deploys(planning, stage)]
    if allowed or context.mode is Mode.VERIFY or context.sequence is None or not due:
        return
    names = {
        name
        for stage in due
        for name in (stage.name, *config.upstream(stage.name, project.config.stages))
    }
    for name in sorted(names):
        held = planning.held.get(name)
        if held is not None and held.record.provider == context.provider:
            _refuse_newer(f"stage {name} was deployed", held.record, context.sequence, name)
    found = newest(context.provider)
    if found is not None:
        _refuse_newer(
            "the environment was deployed",
            found,
            context.sequence,
            planning.executable.plan.environment,
        )


def _deploys(planning: PlanResult, stage: StagePlan) -> bool:
    """Whether a run would deploy this stage. The default stage deploys nothing."""
    when = planning.snapshot.candidates[stage.name].stage.when
    return stage.status is not Status.UNCHANGED and when != "nothing-due"


def _refuse_newer(what: str, found: Record | Newest, sequence: int, where: str) -> None:
    if (found.sequence or 0) > sequence:
        raise RefusedError(
            "older-pipeline",
            f"{what} by a newer pipeline ({found.sequence}, this one is {sequence})",
            hint="Run the newest pipeline, or pass --allow-rollback to put this older content back.",
            where=found.pipeline_url or where,
        )


def refuse_unready(planning: PlanResult) -> None:
    """Refuse a stage whose needed stage is due and not part of this run: DAGs would name an image
    that is not there.
    """
    if planning.executable.left_out:
        stage, need = planning.executable.left_out[0]
        raise RefusedError(
            "needed-stage-due",
            f"stage {stage} needs {need}, which is due and was not selected",
            hint=f"Run {need} first, or both: cipipe run {need} {stage}",
            where=f"stages.{stage}.needs",
        )


def refuse_unproven(session: Session, planning: PlanResult) -> None:
    """Where the environment comes after another one, refuse content that the other one does not
    run.
    """
    project, name = session.project, session.environment_name
    first = session.environment.after
    due = [
        s
        for s in planning.executable.plan.stages
        if s.status is not Status.UNCHANGED and s.name in planning.held
    ]
    if first is None or not due:
        return
    wanted = fingerprints_in(project, planning.snapshot, first)
    due = [
        stage for stage in due if stage.name in wanted
    ]  # what the first one does not have proves nothing
    earlier = session.at(first)
    access = earlier.connect(Mode.DEPLOY, read_only=True)
    there = earlier.ledger(access).read([stage.name for stage in due])
    for stage in due:
        held = there[stage.name]
        record = held.record if held is not None else None
        if record is None or (record.state, record.fingerprint) != (
            State.DEPLOYED,
            wanted[stage.name],
        ):
            raise RefusedError(
                "not-in-earlier-environment",
                f"{first} does not run this content of stage {stage.name}, so {name} may not have it yet",
                hint=f"Deploy this commit to {first} first.",
                where=f"environments.{name}.after",
            )


def refuse_destroy(session: Session, confirm: str | None, *, allow_destroy: bool) -> None:
    """Refuse to destroy an environment that is protected, or whose name was not repeated."""
    name, environment = session.environment_name, session.environment
    if session.project.context.mode is Mode.VERIFY:
        raise merge_request_read_only(name)
    if environment.protected and not (environment.allow_destroy and allow_destroy):
        raise RefusedError(
            "destroy-protected",
            f"environment {name} is protected",
            hint=f"Commit `allow_destroy = true` under [environments.{name}] and pass --allow-destroy.",
            where=f"environments.{name}.protected",
        )
    if confirm != name:
        raise RefusedError(
            "destroy-not-confirmed",
            f"destroying {name} was not confirmed"
            if confirm is None
            else f"--confirm says {confirm!r}, not {name!r}",
            hint=f"Repeat the environment's name: cipipe destroy --env {name} --confirm {name}",
            where="--confirm",
        )
