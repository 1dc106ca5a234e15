"""`cipipe plan`: read the commit, read what is deployed, decide. Also the first half of a run."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from cipipe import config, fingerprint, planner, titles
from cipipe.model import Baseline, Mode, Output, Plan, State, Status
from cipipe.pipeline.planning import undeclared
from cipipe.pipeline.planning.baseline import ChangesSince, known_from_commit
from cipipe.pipeline.planning.snapshot import Snapshot, consumed_outputs, read_snapshot
from cipipe.pipeline.planning.stage_lookup import check_names, recorded_stages
from cipipe.pipeline.project import Project
from cipipe.pipeline.session import Session
from cipipe.planner import ExecutablePlan, Known, Question
from cipipe.stages import KINDS
from cipipe.tools import own_folder

if TYPE_CHECKING:
    from cipipe.ledger import Ledger, StoredRecord


class PlanOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says about planning."""

    mode: Mode
    # The revision to compare with, instead of the ledger.
    base: str | None = None
    # Plan the files on disk instead of those of the commit.
    worktree: bool = False
    # The stages to plan; empty for all of them.
    selected: frozenset[str] = frozenset()
    # Stages that count as due.
    forced: frozenset[str] = frozenset()
    show_uncovered: bool = False
    # Leave out stages that always run, and the default one.
    only_due: bool = False
    # Look for the last attempts that failed.
    failures: bool = False

    @property
    def named(self) -> frozenset[str]:
        """All stages that the command line names."""
        return self.selected | self.forced


class PlanResult(msgspec.Struct, frozen=True, kw_only=True):
    """A plan, with what a run needs of how it was made."""

    executable: ExecutablePlan
    snapshot: Snapshot
    # What the ledger has, by stage; empty where the plan compares with a
    # commit.
    stored: "Mapping[str, StoredRecord | None]" = {}
    # By stage.
    outputs: Mapping[str, Mapping[str, Output]] = {}


def plan(
    session: Session,
    options: PlanOptions,
    ledger: "Ledger | None",
    meanwhile: Callable[[], None] = lambda: None,
) -> PlanResult:
    """Plan against the ledger, or against a commit where there is none.

    `meanwhile` is called when the ledger has answered, so that other
    requests to AWS can start. Raises UsageError, StageError.
    """
    project = session.project
    check_names(project.config, options.named)
    sweep_lock_files(project)
    snapshot = read_snapshot(project, worktree=options.worktree)
    warnings = _warnings(project, snapshot, options)

    stored: Mapping[str, StoredRecord | None] = {}
    outputs: Mapping[str, Mapping[str, Output]] = {}
    if ledger is not None and options.base is None:
        stored = ledger.read(recorded_stages(project.config))
        outputs = _outputs(project, ledger, stored)
        meanwhile()
        known: Mapping[str, Known] = _known(project, snapshot, stored, outputs)
        baseline = Baseline("ledger")
    else:
        known, baseline = known_from_commit(project, snapshot, options.base)

    question = Question(
        config=project.config,
        environment=session.environment_name,
        mode=options.mode,
        provider=project.context.provider,
        commit=snapshot.commit,
        baseline=baseline,
        candidates=snapshot.candidates,
        known=known,
        selected=options.selected,
        forced=options.forced,
        only_due=options.only_due,
        warnings=warnings,
    )
    executable = planner.plan(question)
    found = undeclared.warnings(
        project, executable.plan, snapshot, everywhere=options.show_uncovered
    )
    complete = msgspec.structs.replace(
        executable.plan, warnings=(*executable.plan.warnings, *found)
    )
    if options.failures and baseline.kind == "ledger" and ledger is not None:
        complete = _with_failures(complete, ledger, stored)
    return PlanResult(
        executable=msgspec.structs.replace(executable, plan=complete),
        snapshot=snapshot,
        stored=stored,
        outputs=outputs,
    )


def sweep_lock_files(project: Project) -> None:
    """Remove the dependency lock files that killed runs left in roots that have none in git."""
    folder = project.repository.root / own_folder.NAME / "terraform"
    if folder.is_dir():
        from cipipe.tools.terraform import lock_file

        lock_file.sweep(folder, project.repository.tracks)


def shown(project: Project, result: PlanResult) -> Plan:
    """The plan as it is printed: titles of steps have the outputs that are
    known by now.

    Those are the outputs of stages that stay as they are.
    """
    executable = result.executable
    stages = []
    for stage in executable.plan.stages:
        known: dict[str, Output] = {}
        for need in config.upstream(stage.name, project.config.stages):
            if need in executable.kept:
                known |= result.outputs.get(need, {})
        settings = result.snapshot.candidates[stage.name].stage.settings
        steps = titles.in_plan(executable.steps[stage.name], settings, known)
        stages.append(msgspec.structs.replace(stage, steps=steps))
    return msgspec.structs.replace(executable.plan, stages=tuple(stages))


def _with_failures(
    plan: Plan, ledger: "Ledger", stored: "Mapping[str, StoredRecord | None]"
) -> Plan:
    """The plan with the last attempts of its stages that failed. What is unchanged is deployed."""
    records = {
        stage.name: found.record if (found := stored[stage.name]) else None
        for stage in plan.stages
        if stage.name in stored and stage.status is not Status.UNCHANGED
    }
    failures = ledger.failures(records)
    stages = tuple(
        msgspec.structs.replace(stage, last_failure=failures.get(stage.name))
        for stage in plan.stages
    )
    return msgspec.structs.replace(plan, stages=stages)


def _warnings(project: Project, snapshot: Snapshot, options: PlanOptions) -> tuple[str, ...]:
    committed = project.repository.objects([f"{snapshot.commit}:{project.config_path}"])[0]
    if options.worktree or (committed is not None and committed.body == project.config_text):
        return ()
    how = "is not committed" if committed is None else "differs from the commit"
    return (f"{project.config_path} {how}; this plan uses the file on disk",)


def _outputs(
    project: Project, ledger: "Ledger", stored: "Mapping[str, StoredRecord | None]"
) -> dict[str, Mapping[str, Output]]:
    # A destroyed stage may have left outputs of resources that are gone.
    deployed = [
        name
        for name, stage in project.config.stages.items()
        if KINDS[stage.kind].GIVES_OUTPUTS
        and (record := stored.get(name)) is not None
        and record.record.state is not State.DESTROYED
    ]
    return {name: outputs or {} for name, outputs in ledger.read_outputs_of(deployed).items()}


def _known(
    project: Project,
    snapshot: Snapshot,
    stored: "Mapping[str, StoredRecord | None]",
    outputs: Mapping[str, Mapping[str, Output]],
) -> dict[str, Known]:
    """What the ledger says about each stage, compared with the snapshot."""
    changes = ChangesSince(project, snapshot)
    known = {}
    for name, candidate in snapshot.candidates.items():
        found = stored.get(name)
        if found is None:
            known[name] = Known()
            continue
        record = found.record
        if record.state is not State.DEPLOYED or record.fingerprint != candidate.fingerprint:
            known[name] = Known(record, changed=changes.of(name, record.commit))
            continue

        # The same files and settings: what is left to differ are the
        # outputs that it consumed.
        available: dict[str, Output] = {}
        for need in config.upstream(name, project.config.stages):
            available |= outputs.get(need, {})
        names = consumed_outputs(project, snapshot, candidate, found)
        actual = fingerprint.effective(
            candidate.fingerprint, fingerprint.consumed(available, names)
        )
        known[name] = Known(record, inputs_changed=record.effective != actual)
    return known
