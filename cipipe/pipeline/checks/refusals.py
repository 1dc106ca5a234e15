"""What a run or a destroy is refused for before anything starts: safeguards, with exit status 5."""

from collections.abc import Callable, Sequence

from cipipe import config
from cipipe.errors import RefusedError
from cipipe.model import Mode, Newest, Plan, Record, StagePlan, State, Status
from cipipe.patterns import Patterns
from cipipe.pipeline.identity.role_session import merge_request_read_only
from cipipe.pipeline.planning.plan import PlanResult
from cipipe.pipeline.planning.snapshot import fingerprints_in
from cipipe.pipeline.project import Project
from cipipe.pipeline.session import Session
from cipipe.report.plan_file import PlanFile
from cipipe.stages import terraform
from cipipe.terminal import visible
from cipipe.tools.terraform.backend import refuse_workspace_variable

# How many files a message names.
_SHOWN = 10


def refuse_ref(session: Session, mode: Mode) -> None:
    """Refuse a job whose ref the environment is not deployed from."""
    context = session.project.context
    name = session.environment_name
    if mode is Mode.VERIFY or context.provider == "local" or session.project.may_deploy(name):
        return
    ref = f"{context.ref_type} {context.ref}" if context.ref else "a job without branch or tag"
    raise RefusedError(
        "ref-not-allowed",
        f"{ref} may not deploy to {name}",
        hint=f"[environments.{name}] deploy_from names the branches and tags that may.",
        where=f"environments.{name}.deploy_from",
    )


def refuse_other_workspace(project: Project, result: PlanResult) -> None:
    """Refuse TF_WORKSPACE where it contradicts a stage that is to run. Raises UsageError."""
    plan = result.executable.plan
    for planned in plan.stages:
        stage = result.snapshot.candidates[planned.name].stage
        if planned.status is Status.UNCHANGED or stage.kind != terraform.NAME:
            continue
        workspace = stage.settings.workspace
        wanted = project.config.expanded(workspace, plan.environment) if workspace else None
        refuse_workspace_variable(project.env, wanted)


def refuse_dirty(project: Project, result: PlanResult) -> None:
    """Refuse a run whose files on disk are not those of the commit: it would deploy them."""
    plan = result.executable.plan
    due = [stage.name for stage in plan.stages if stage.status is not Status.UNCHANGED]
    patterns = [result.snapshot.patterns[name] for name in due]
    dirty = dirty_paths(project, patterns)
    if not dirty:
        return
    names = [visible(path.decode(errors="backslashreplace")) for path in dirty[:_SHOWN]]
    listed = "\n".join(f"  {name}" for name in names)
    more = f"\n  … and {len(dirty) - _SHOWN} more" if len(dirty) > _SHOWN else ""
    raise RefusedError(
        "dirty-work-tree",
        f"files of stages that are due differ from the commit:\n{listed}{more}",
        hint="Commit or stash them. `cipipe plan --worktree` plans the files on disk.",
    )


def dirty_paths(project: Project, patterns: Sequence[Patterns]) -> list[bytes]:
    """The files of these patterns that differ from the commit on disk, and the configuration."""
    return [
        path
        for path in project.repository.dirty()
        if path == project.config_path.encode()
        # A folder that became a link or a submodule counts for everything
        # that was in it.
        or any(p.matches_link(path) or p.matches(path + b"-") for p in patterns)
    ]


def refuse_stale(actual: Plan, expected: PlanFile) -> None:
    """Refuse to run a plan that is not the one in the plan file."""
    now = {stage.name: (stage.status.value, stage.fingerprint) for stage in actual.stages}
    then = {stage.name: (stage.status, stage.fingerprint) for stage in expected.stages}
    same = (actual.environment, actual.commit) == (expected.environment, expected.commit)
    if not same or now != then:
        raise RefusedError(
            "plan-stale",
            "the plan file is out of date: another plan would run now",
            hint="Plan again and review it again. Nothing was started.",
            where="--plan",
        )


def refuse_older(
    project: Project,
    result: PlanResult,
    *,
    allowed: bool,
    newest: Callable[[str], Newest | None] = lambda _: None,
) -> None:
    """Refuse to deploy an older pipeline's content over a newer one's, or
    on top of its resources.

    `newest` returns the newest pipeline of a provider; it is called only
    where something is due.
    """
    context = project.context
    plan = result.executable.plan
    due = [stage for stage in plan.stages if _deploys(result, stage)]
    if allowed or context.mode is Mode.VERIFY or context.sequence is None or not due:
        return

    names = set()
    for stage in due:
        names |= {stage.name, *config.upstream(stage.name, project.config.stages)}
    for name in sorted(names):
        stored = result.stored.get(name)
        # Sequences of two providers cannot be compared.
        if stored is not None and stored.record.provider == context.provider:
            what = f"stage {name} was deployed"
            _refuse_newer(what, stored.record, sequence=context.sequence, where=name)
    found = newest(context.provider)
    if found is not None:
        _refuse_newer(
            "the environment was deployed",
            found,
            sequence=context.sequence,
            where=plan.environment,
        )


def _deploys(result: PlanResult, stage: StagePlan) -> bool:
    """Whether a run would deploy this stage. The default stage deploys nothing."""
    when = result.snapshot.candidates[stage.name].stage.when
    return stage.status is not Status.UNCHANGED and when != "nothing-due"


def _refuse_newer(what: str, found: Record | Newest, *, sequence: int, where: str) -> None:
    if (found.sequence or 0) > sequence:
        raise RefusedError(
            "older-pipeline",
            f"{what} by a newer pipeline ({found.sequence}, this one is {sequence})",
            hint="Run the newest pipeline, or pass --allow-rollback to deploy this older content.",
            where=found.pipeline_url or where,
        )


def refuse_unready(result: PlanResult) -> None:
    """Refuse a stage whose needed stage is due but not part of this run.

    DAGs, for example, would name an image that does not exist yet.
    """
    if not result.executable.left_out:
        return
    stage, need = result.executable.left_out[0]
    raise RefusedError(
        "needed-stage-due",
        f"stage {stage} needs {need}, which is due and was not selected",
        hint=f"Run {need} first, or both: cipipe run {need} {stage}",
        where=f"stages.{stage}.needs",
    )


def refuse_unproven(session: Session, result: PlanResult) -> None:
    """Refuse content that the environment before this one (`after`) does not run."""
    first = session.environment.after
    due = [
        stage.name
        for stage in result.executable.plan.stages
        if stage.status is not Status.UNCHANGED and stage.name in result.stored
    ]
    if first is None or not due:
        return
    wanted = fingerprints_in(session.project, result.snapshot, first)
    # A stage that the first environment does not have proves nothing.
    due = [name for name in due if name in wanted]

    earlier = session.at(first)
    access = earlier.connect(Mode.DEPLOY, read_only=True)
    deployed = earlier.ledger(access).read(due)
    for name in due:
        stored = deployed[name]
        proven = stored is not None and stored.record.state is State.DEPLOYED
        if stored is None or not proven or stored.record.fingerprint != wanted[name]:
            raise RefusedError(
                "not-in-earlier-environment",
                f"{first} does not run this content of stage {name}, so it may not be deployed to "
                f"{session.environment_name} yet",
                hint=f"Deploy this commit to {first} first.",
                where=f"environments.{session.environment_name}.after",
            )


def refuse_destroy(
    session: Session, confirm: str | None, *, allow_destroy: bool, dry_run: bool = False
) -> None:
    """Refuse to destroy an environment that is protected, or whose name was
    not repeated. A dry run is refused in the job of a merge request only.
    """
    name = session.environment_name
    environment = session.environment
    if session.project.context.mode is Mode.VERIFY:
        raise merge_request_read_only(name)
    if dry_run:
        return
    if environment.protected and not (environment.allow_destroy and allow_destroy):
        raise RefusedError(
            "destroy-protected",
            f"environment {name} is protected",
            hint=f"Commit `allow_destroy = true` under [environments.{name}] and pass "
            "--allow-destroy.",
            where=f"environments.{name}.protected",
        )
    if confirm != name:
        message = f"destroying {name} was not confirmed"
        if confirm is not None:
            message = f"--confirm says {confirm!r}, not {name!r}"
        raise RefusedError(
            "destroy-not-confirmed",
            message,
            hint=f"Repeat the environment's name: --confirm {name}",
            where="--confirm",
        )
