"""`cipipe plan`: read the commit, read what is deployed, decide. Also the first half of every run."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cipipe import config, fingerprint, planner, titles, tree_files
from cipipe.config import Config
from cipipe.contents import Contents
from cipipe.errors import CipipeError, UsageError
from cipipe.model import Baseline, Mode, Output, Plan, State
from cipipe.patterns import Patterns
from cipipe.pipeline.checks import undeclared
from cipipe.pipeline.project import Project
from cipipe.pipeline.session import Session
from cipipe.pipeline.stage_lookup import check_names, recorded_stages
from cipipe.planner import Candidate, ExecutablePlan, Known, Question
from cipipe.stages import KINDS
from cipipe.stages.settings import references
from cipipe.tools import own_folder
from cipipe.tools.git.client import Commit, Entry

if TYPE_CHECKING:
    from cipipe.ledger import Ledger, StoredRecord


class PlanOptions(msgspec.Struct, frozen=True):
    """What the command line says of planning. `only_due` leaves out stages that always run, and the
    default one.
    """

    mode: Mode
    base: str | None = None
    worktree: bool = False
    selected: frozenset[str] = frozenset()
    forced: frozenset[str] = frozenset()
    show_uncovered: bool = False
    only_due: bool = False

    @property
    def named(self) -> frozenset[str]:
        """All stages that the command line names."""
        return self.selected | self.forced


class Snapshot(msgspec.Struct, frozen=True):
    """The commit that is planned: its tree (or the work tree's), time (seconds since 1970), and
    stages.
    """

    commit: str
    tree: str
    time: int
    candidates: Mapping[str, Candidate]
    patterns: Mapping[str, Patterns]
    contents: Contents


class PlanResult(msgspec.Struct, frozen=True):
    """A plan, with all that a run needs of how it came about."""

    executable: ExecutablePlan
    snapshot: Snapshot
    held: "dict[str, StoredRecord | None]" = {}
    outputs: dict[str, dict[str, Output]] = {}


def plan(
    session: Session,
    options: PlanOptions,
    ledger: "Ledger | None",
    meanwhile: Callable[[], None] = lambda: None,
) -> PlanResult:
    """Plan against the ledger, or, without one, against a revision. Raises UsageError, StageError.

    `meanwhile` is called when the ledger has answered: what else AWS is going to be asked for can
    begin.
    """
    project = session.project
    check_names(project.config, options.named)
    sweep_lock_files(project)
    shot = snapshot(project, worktree=options.worktree)
    warnings = _warnings(project, shot, options)
    if ledger is not None and options.base is None:
        held = ledger.read(recorded_stages(project.config))
        outputs = _outputs(project.config, ledger, held)
        meanwhile()
        changes = _Changes(project, shot)
        known = {
            name: _known(project, shot, name, held.get(name), outputs, changes)
            for name in shot.candidates
        }
        baseline = Baseline("ledger")
    else:
        held, outputs = {}, {}
        base, baseline = _baseline(project, options.base, shot.commit)
        compared = _compare(project, shot, base) if base else None
        known, baseline = (compared, baseline) if compared is not None else ({}, Baseline("none"))
    question = Question(
        config=project.config,
        environment=session.environment_name,
        mode=options.mode,
        provider=project.context.provider,
        commit=shot.commit,
        baseline=baseline,
        candidates=shot.candidates,
        known=known,
        selected=options.selected,
        forced=options.forced,
        only_due=options.only_due,
        warnings=warnings,
    )
    executable = planner.plan(question)
    found = undeclared.warnings(
        project,
        executable.plan,
        shot.tree,
        shot.candidates,
        shot.patterns,
        everywhere=options.show_uncovered,
    )
    whole = msgspec.structs.replace(executable.plan, warnings=(*executable.plan.warnings, *found))
    return PlanResult(msgspec.structs.replace(executable, plan=whole), shot, held, outputs)


def sweep_lock_files(project: Project) -> None:
    """Remove from the work tree the dependency lock files that killed runs left in roots without
    one of their own.
    """
    folder = project.repository.root / own_folder.NAME / "terraform"
    if folder.is_dir():
        from cipipe.tools.terraform import lock_file as terraform_lock_file

        terraform_lock_file.sweep(folder, project.repository.tracks)


def shown(project: Project, planning: PlanResult) -> Plan:
    """The plan as it is printed: titles of steps have the outputs that are known, those of stages
    that stay as they are.
    """
    executable = planning.executable
    everything = project.config.stages
    stages = []
    for stage in executable.plan.stages:
        known: dict[str, Output] = {}
        for need in config.upstream(stage.name, everything):
            known |= planning.outputs.get(need, {}) if need in executable.kept else {}
        settings = planning.snapshot.candidates[stage.name].stage.settings
        made = titles.planned(executable.steps[stage.name], settings, known)
        stages.append(msgspec.structs.replace(stage, steps=made))
    return msgspec.structs.replace(executable.plan, stages=tuple(stages))


def snapshot(project: Project, *, worktree: bool = False) -> Snapshot:
    """Read what HEAD (or the work tree) holds of every stage."""
    head = project.repository.commit("HEAD")
    if head is None:
        raise UsageError(
            "git-no-commit",
            "the repository has no commit yet",
            hint="cipipe deploys commits: commit the files first.",
            where=str(project.repository.root),
        )
    tree = head.tree
    if worktree:
        import tempfile

        with tempfile.TemporaryDirectory(prefix="cipipe-") as folder:
            tree = project.repository.worktree_tree(Path(folder) / "index")
    patterns = {name: Patterns(stage.paths) for name, stage in project.config.stages.items()}
    contents = Contents(project.repository)
    candidates = planner.make_candidates(project.config, contents.of(tree, patterns), project.env)
    return Snapshot(head.oid, tree, head.time, candidates, patterns, contents)


def fingerprints_in(project: Project, shot: Snapshot, environment: str) -> dict[str, str]:
    """The fingerprints that the stages of this commit have in another environment, which may have
    other values.
    """
    settings = project.config.at(environment)
    patterns = {name: Patterns(stage.paths) for name, stage in settings.stages.items()}
    there = planner.make_candidates(
        settings, shot.contents.of(shot.tree, patterns), project.env, shot.candidates
    )
    return {name: candidate.fingerprint for name, candidate in there.items()}


def consumed_outputs(
    project: Project, shot: Snapshot, candidate: Candidate, held: "StoredRecord | None"
) -> frozenset[str]:
    """The Terraform outputs that a stage takes: those in its settings, and those that its files ask
    for.
    """
    record = held.record if held is not None else None
    same = record is not None and (record.state, record.fingerprint) == (
        State.DEPLOYED,
        candidate.fingerprint,
    )
    recorded = record.data if record is not None and same else {}

    def files() -> Iterator[Entry]:  # most kinds do not look at their files
        yield from tree_files.files(
            project.repository, shot.tree, shot.patterns[candidate.stage.name]
        )

    settings = frozenset(
        r.output for _, r in references(candidate.stage.settings) if r.output is not None
    )
    return settings | KINDS[candidate.stage.kind].consumes(
        candidate.stage, files(), project.repository, recorded
    )


def _warnings(project: Project, shot: Snapshot, options: PlanOptions) -> tuple[str, ...]:
    committed = project.repository.objects([f"{shot.commit}:{project.config_path}"])[0]
    if options.worktree or (committed is not None and committed.body == project.config_text):
        return ()
    how = "is not committed" if committed is None else "differs from the commit"
    return (f"{project.config_path} {how}; this plan uses the file on disk",)


def _outputs(
    settings: Config, ledger: "Ledger", held: "Mapping[str, StoredRecord | None]"
) -> dict[str, dict[str, Output]]:
    found = {}
    for name, stage in settings.stages.items():
        record = held.get(name)
        if (
            stage.kind == "terraform"
            and record is not None
            and record.record.state is not State.DESTROYED
        ):
            found[name] = ledger.read_outputs(name) or {}
    return found


def _known(
    project: Project,
    shot: Snapshot,
    name: str,
    held: "StoredRecord | None",
    outputs: Mapping[str, Mapping[str, Output]],
    changes: "_Changes",
) -> Known:
    if held is None:
        return Known()
    record, candidate = held.record, shot.candidates[name]
    if record.state is not State.DEPLOYED or record.fingerprint != candidate.fingerprint:
        return Known(record, changed=changes.since(record.commit, name))
    available: dict[str, Output] = {}
    for need in config.upstream(name, project.config.stages):
        available |= outputs.get(need, {})
    values = fingerprint.consumed(available, consumed_outputs(project, shot, candidate, held))
    actual = fingerprint.effective(candidate.fingerprint, values)
    return Known(record, inputs_changed=record.effective != actual)


class _Changes:
    """What differs from earlier commits, stage by stage; each commit is compared once."""

    def __init__(self, project: Project, shot: Snapshot) -> None:
        self._repository = project.repository
        self._shot = shot
        self._found: dict[str, dict[str, tuple[bytes, ...]] | None] = {}

    def since(self, commit: str | None, stage: str) -> tuple[bytes, ...] | None:
        """The stage's paths that differ; None where the commit is not in this clone."""
        if commit is None:
            return None
        if commit not in self._found:
            old = self._repository.commit(commit)
            self._found[commit] = (
                tree_files.changed(self._repository, old.tree, self._shot.tree, self._shot.patterns)
                if old
                else None
            )
        changed = self._found[commit]
        return None if changed is None else changed[stage]


def _baseline(project: Project, wanted: str | None, head: str) -> tuple[Commit | None, Baseline]:
    """The commit to compare with: the one asked for, else the merge base, else what the event says
    was there before.
    """
    if wanted is not None:
        found = project.repository.commit(wanted)
        if found is None:
            raise UsageError(
                "base-unknown",
                f"there is no commit {wanted!r} in this clone",
                hint="Check how it is spelt, and fetch it if the clone is shallow: git fetch --unshallow.",
                where="--base",
            )
        return found, Baseline("revision", found.oid)
    context = project.context
    target = _merged_into(project, head)
    if target is not None:
        return target, Baseline("revision", target.oid)
    branch = context.default_branch
    candidates = [f"origin/{branch}", branch] if branch else ["origin/HEAD"]
    for name in [context.base, *candidates]:
        other = project.repository.commit(name) if name else None
        base = project.repository.merge_base(head, other.oid) if other else None
        # In a job, being the default branch's newest commit says nothing of what is deployed.
        if base and (base != head or context.provider == "local"):
            return project.repository.commit(base), Baseline("revision", base)
    if (
        context.event == "merge-request"
    ):  # what was there before the last push to a branch is no target of it
        return None, Baseline("none")
    before = project.repository.commit(context.before) if context.before else None
    return (before, Baseline("revision", before.oid)) if before else (None, Baseline("none"))


def _merged_into(project: Project, head: str) -> Commit | None:
    """The target's commit that the provider merged a request into for this job, if it did and the
    clone has it.

    What only the target has changed is no change of the request. The request's own base is of no
    use then: HEAD holds what the target has changed since.
    """
    merge = project.provider.merge(project.env)
    if merge is None or merge.commit not in {
        None,
        head,
    }:  # the job may have checked out something else
        return None
    made = project.repository.commit(head)
    parents = made.parents if made is not None else ()
    # Fast-forward and squash merges make no commit with two parents.
    candidates = [merge.target, parents[0] if len(parents) > 1 else None]
    return next(
        (found for name in candidates if name and (found := project.repository.commit(name))), None
    )


def _compare(project: Project, shot: Snapshot, base: Commit) -> dict[str, Known] | None:
    """What each stage was in an earlier commit, by that commit's own configuration; None if it has
    no usable one.
    """
    try:
        text = project.repository.objects([f"{base.oid}:{project.config_path}"])[0]
        if text is None:
            return None
        same = text.body == project.config_text
        settings = project.config if same else config.load(text.body, name=project.config_path)
        settings = settings.at(project.config.viewed) if project.config.viewed else settings
        patterns = {name: Patterns(stage.paths) for name, stage in settings.stages.items()}
        then = planner.make_candidates(
            settings, shot.contents.of(base.tree, patterns), project.env, shot.candidates
        )
    except CipipeError:
        return None
    was = {name: candidate.fingerprint for name, candidate in then.items()}
    differ = any(
        was.get(name) != candidate.fingerprint for name, candidate in shot.candidates.items()
    )
    changed = (
        tree_files.changed(project.repository, base.tree, shot.tree, shot.patterns)
        if differ
        else {}
    )
    return {
        name: Known(
            fingerprint=was.get(name),
            changed=changed.get(name) if was.get(name) != now.fingerprint else None,
        )
        for name, now in shot.candidates.items()
    }
