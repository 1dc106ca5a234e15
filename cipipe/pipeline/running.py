"""`cipipe run` and `cipipe destroy`: connect, plan, refuse what must be refused, hand the plan to the runner."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cipipe import config
from cipipe.errors import CipipeError, RefusedError, StageError
from cipipe.ledger import Ledger
from cipipe.model import Baseline, Mode, Plan, Reason, Report, StagePlan, State, Status
from cipipe.pipeline.access import Access, Door, connect
from cipipe.pipeline.place import Place
from cipipe.pipeline.planning import Options, Planning, plan, refuse_dirty, snapshot
from cipipe.pipeline.profile import served
from cipipe.pipeline.project import Project
from cipipe.planner import Planned, Prepared
from cipipe.records import Records
from cipipe.redact import Redactor
from cipipe.runner import Progress, Runner
from cipipe.stages import KINDS


@dataclass(frozen=True)
class RunOptions:
    """What the command line says of a run, besides planning. `expected` is the plan that was looked at before.

    `jobs` is how many stages run at the same time at most.
    """

    planning: Options
    jobs: int = 4
    allow_rollback: bool = False
    allow_replace: bool = False
    expected: Mapping[str, Any] | None = None
    allow_empty: bool = False


@dataclass(frozen=True)
class Outcome:
    """A report, and the error that made the run fail, if one did."""

    report: Report
    error: CipipeError | None = None


def ledger_of(project: Project, name: str, access: Access) -> Ledger:
    settings = project.config.ledger
    bucket = access.aws.bucket(project.config.expanded(settings.bucket, name))
    return Ledger(bucket, project.config.expanded(settings.prefix, name).rstrip("/") + "/")


def run(
    project: Project,
    options: RunOptions,
    *,
    redactor: Redactor,
    progress: Progress,
    planned: Callable[[Plan], None],
    door: Door | None = None,
) -> Outcome:
    """Run what is due. `planned` is told the plan before anything starts. Raises CipipeError where nothing was begun."""
    name = options.planning.environment
    access = connect(project, name, options.planning.mode, redactor=redactor, door=door)
    refuse_ref(project, name, options.planning.mode)
    ledger = ledger_of(project, name, access)
    planning = plan(project, options.planning, ledger)
    if options.expected is not None:
        _refuse_stale(planning.planned.plan, options.expected)
    if not options.planning.worktree:
        refuse_dirty(project, planning)
    _refuse_older(project, planning, allowed=options.allow_rollback)
    if options.planning.mode is Mode.DEPLOY and door is None:
        _refuse_unready(planning)
    if options.planning.mode is Mode.DEPLOY:
        _refuse_unproven(project, planning, name, redactor=redactor, door=door)
    planned(planning.planned.plan)
    for warning in planning.planned.plan.warnings:
        progress.warning(warning)
    missing = _missing(project, planning, door)
    with scratch_folder(project) as scratch, served(access, progress.warning) as access:
        place = Place(
            project=project,
            planning=planning,
            access=access,
            redactor=redactor,
            scratch=scratch,
            missing=frozenset(missing),
            sandbox=door is not None,
            allow_replace=options.allow_replace,
            allow_empty=options.allow_empty,
        )
        runner = runner_of(planning, place, ledger, progress, jobs=options.jobs)
        return Outcome(runner.deploy(), runner.error)


def destroy(
    project: Project,
    name: str,
    *,
    redactor: Redactor,
    progress: Progress,
    confirm: str | None,
    allow_destroy: bool = False,
    door: Door | None = None,
) -> Outcome:
    """Take an environment down, in reverse order. Raises RefusedError before any call to AWS."""
    refuse_destroy(project, name, confirm, allow_destroy=allow_destroy)
    access = connect(project, name, Mode.DESTROY, redactor=redactor, door=door)
    refuse_ref(project, name, Mode.DESTROY)
    ledger = ledger_of(project, name, access)
    shot = snapshot(project)
    recorded = [n for n, prepared in shot.prepared.items() if prepared.stage.when == "due"]
    held = ledger.read(recorded)
    stages, steps = [], {}
    for stage_name in reversed(recorded):
        prepared, found = shot.prepared[stage_name], held[stage_name]
        there = found is not None and found.record.state is not State.DESTROYED
        steps[stage_name] = KINDS[prepared.stage.kind].steps(prepared.stage, Mode.DESTROY, tag=prepared.tag)
        if not there:
            steps[stage_name] = ()
        stages.append(_to_destroy(prepared, there=there, steps=tuple(step.title for step in steps[stage_name])))
    outputs = {
        n: ledger.read_outputs(n) or {}
        for n in recorded
        if shot.prepared[n].stage.kind == "terraform" and held[n] is not None
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
    planning = Planning(Planned(whole, steps), shot, held, outputs)
    missing = _missing(project, planning, door)
    if missing:
        raise _lacking(missing)
    with scratch_folder(project) as scratch, served(access, progress.warning) as access:
        place = Place(project, planning, access, redactor, scratch, sandbox=door is not None)
        runner = runner_of(planning, place, ledger, progress)
        return Outcome(runner.destroy(), runner.error)


def refuse_destroy(project: Project, name: str, confirm: str | None, *, allow_destroy: bool) -> None:
    environment = project.config.environment(name)
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
            f"destroying {name} was not confirmed" if confirm is None else f"--confirm says {confirm!r}, not {name!r}",
            hint=f"Repeat the environment's name: cipipe destroy --env {name} --confirm {name}",
            where="--confirm",
        )


def _to_destroy(prepared: Prepared, *, there: bool, steps: tuple[str, ...]) -> StagePlan:
    return StagePlan(
        name=prepared.stage.name,
        kind=prepared.stage.kind,
        status=Status.DUE if there else Status.UNCHANGED,
        reason=Reason.FORCED if there else Reason.UNCHANGED,
        detail="destroy was asked for" if there else "nothing of it is deployed",
        fingerprint=prepared.fingerprint,
        deployed_fingerprint=None,
        paths=(),
        needs=prepared.stage.needs,
        steps=steps,
    )


def runner_of(planning: Planning, place: Place, ledger: Ledger, progress: Progress, *, jobs: int = 1) -> Runner:
    planned = planning.planned
    return Runner(
        planned=planned,
        prepared=planning.snapshot.prepared,
        records=Records(ledger, planned.plan, place.project.context, planning.held),
        workplace=place,
        redactor=place.redactor,
        progress=progress,
        outputs=dict(planning.outputs),
        jobs=jobs,
    )


@contextlib.contextmanager
def scratch_folder(project: Project) -> Iterator[Path]:
    """A private folder for this run. A killed run could not remove its own, with the plan in it: that is done here."""
    top = project.repository.root / ".cipipe" / "run"
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


def _missing(project: Project, planning: Planning, door: Door | None) -> dict[str, str]:
    """The tools that due stages need and this machine lacks. Outside the sandbox that is an error, before anything runs."""
    due = [s for s in planning.planned.plan.stages if s.status is not Status.UNCHANGED]
    stages = [planning.snapshot.prepared[s.name].stage for s in due]
    needed = {tool for stage in stages for tool in KINDS[stage.kind].tools(stage)}
    if door is not None:
        return {tool: why for tool, why in door.missing.items() if tool in needed}
    if "terraform" in needed and shutil.which("terraform", path=project.env.get("PATH")) is None:
        raise _lacking({"terraform": "developer.hashicorp.com/terraform/install"})
    return {}


def _lacking(missing: Mapping[str, str]) -> StageError:
    names = " and ".join(missing)
    hint = "; ".join(f"{tool}: {how}" for tool, how in missing.items())
    return StageError("tool-missing", f"{names} is not installed on this machine; nothing was started", hint=hint)


def refuse_ref(project: Project, name: str, mode: Mode) -> None:
    if mode is Mode.VERIFY or project.context.provider == "local" or project.may_deploy(name):
        return
    raise RefusedError(
        "ref-not-allowed",
        f"{project.context.ref_type} {project.context.ref} may not deploy to {name}",
        hint=f"[environments.{name}] deploy_from names the branches and tags that may.",
        where=f"environments.{name}.deploy_from",
    )


def _refuse_stale(actual: Plan, expected: Mapping[str, Any]) -> None:
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


def _refuse_older(project: Project, planning: Planning, *, allowed: bool) -> None:
    """Refuse to put an older pipeline's content over a newer one's, or on top of what a newer one made."""
    context = project.context
    due = [stage for stage in planning.planned.plan.stages if stage.status is not Status.UNCHANGED]
    names = {name for stage in due for name in (stage.name, *config.upstream(stage.name, project.config.stages))}
    for name in sorted(names):
        held = planning.held.get(name)
        if allowed or context.mode is Mode.VERIFY or context.sequence is None:
            return
        if held is None:
            continue
        record = held.record
        newer = record.provider == context.provider and (record.sequence or 0) > context.sequence
        if newer:
            raise RefusedError(
                "older-pipeline",
                f"stage {name} was deployed by a newer pipeline ({record.sequence}, this one is {context.sequence})",
                hint="Run the newest pipeline, or pass --allow-rollback to put this older content back.",
                where=record.pipeline_url or name,
            )


def _refuse_unready(planning: Planning) -> None:
    """Refuse a stage whose needed stage is due and not part of this run: DAGs would name an image that is not there."""
    if planning.planned.left_out:
        stage, need = planning.planned.left_out[0]
        raise RefusedError(
            "needed-stage-due",
            f"stage {stage} needs {need}, which is due and was not selected",
            hint=f"Run {need} first, or both: cipipe run {need} {stage}",
            where=f"stages.{stage}.needs",
        )


def _refuse_unproven(project: Project, planning: Planning, name: str, *, redactor: Redactor, door: Door | None) -> None:
    """Where the environment comes after another one, refuse content that the other one does not run."""
    first = project.config.environment(name).after
    due = [s for s in planning.planned.plan.stages if s.status is not Status.UNCHANGED and s.name in planning.held]
    if first is None or not due:
        return
    access = connect(project, first, Mode.DEPLOY, redactor=redactor, door=door, read_only=True)
    there = ledger_of(project, first, access).read([stage.name for stage in due])
    for stage in due:
        held = there[stage.name]
        if held is None or held.record.state is not State.DEPLOYED or held.record.fingerprint != stage.fingerprint:
            raise RefusedError(
                "not-in-earlier-environment",
                f"{first} does not run this content of stage {stage.name}, so {name} may not have it yet",
                hint=f"Deploy this commit to {first} first.",
                where=f"environments.{name}.after",
            )
