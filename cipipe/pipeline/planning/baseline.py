"""What a plan compares with where it does not use the ledger: a commit of this clone."""

from collections.abc import Mapping

from cipipe import config, tree_files
from cipipe.candidates import Candidate, make_candidates
from cipipe.errors import CipipeError, UsageError
from cipipe.model import Baseline
from cipipe.pipeline.planning.snapshot import Snapshot, patterns_of
from cipipe.pipeline.project import Project
from cipipe.planner import Known
from cipipe.tools.git.client import Commit


def known_from_commit(
    project: Project, snapshot: Snapshot, wanted: str | None
) -> tuple[Mapping[str, Known], Baseline]:
    """What each stage was in the commit to compare with, and which commit
    that is.

    `wanted` is the revision that --base names. Raises UsageError
    `base-unknown`.
    """
    base = _wanted(project, wanted) if wanted is not None else _found(project, snapshot.commit)
    if base is not None:
        known = _compare(project, snapshot, base)
        if known is not None:
            return known, Baseline("revision", base.oid)
    return {}, Baseline("none")


def _wanted(project: Project, revision: str) -> Commit:
    found = project.repository.commit(revision)
    if found is None:
        raise UsageError(
            "base-unknown",
            f"there is no commit {revision!r} in this clone",
            hint="Check the spelling, and fetch it if the clone is shallow: git fetch --unshallow.",
            where="--base",
        )
    return found


def _found(project: Project, head: str) -> Commit | None:
    """The merge base, else the commit that the event says was there before this push."""
    context = project.context
    repository = project.repository
    target = _merge_target(project, head)
    if target is not None:
        return target

    branch = context.default_branch
    names = [f"origin/{branch}", branch] if branch else ["origin/HEAD"]
    for name in [context.base, *names]:
        other = repository.commit(name) if name else None
        base = repository.merge_base(head, other.oid) if other else None
        # In a job, HEAD is often the newest commit of the default branch.
        # That says nothing about what is deployed.
        if base and (base != head or context.provider == "local"):
            return repository.commit(base)

    # For a request, the commit before the last push is an older version of
    # the request itself.
    if context.event == "merge-request" or not context.before:
        return None
    return repository.commit(context.before)


def _merge_target(project: Project, head: str) -> Commit | None:
    """The target's commit that the provider merged a request into for this
    job, if it did.

    What only the target has changed is no change of the request. The
    request's own base cannot be used: HEAD contains what the target has
    changed since.
    """
    merge = project.provider.merge(project.env)
    # The job may have checked out something else.
    if merge is None or merge.commit not in {None, head}:
        return None
    commit = project.repository.commit(head)
    parents = commit.parents if commit is not None else ()
    # Fast-forward and squash merges make no commit with two parents.
    names = [merge.target, parents[0] if len(parents) > 1 else None]
    for name in names:
        found = project.repository.commit(name) if name else None
        if found is not None:
            return found
    return None


def _compare(project: Project, snapshot: Snapshot, base: Commit) -> dict[str, Known] | None:
    """What each stage was in an earlier commit, by that commit's own
    configuration.

    None if it has no configuration that can be used, or this clone lacks
    some of its trees.
    """
    try:
        then = candidates_of(project, snapshot, base)
    except CipipeError:
        return None
    if then is None:
        return None

    earlier = {name: candidate.fingerprint for name, candidate in then.items()}
    different = {
        name
        for name, candidate in snapshot.candidates.items()
        if earlier.get(name) != candidate.fingerprint
    }
    changed = changed_paths(project, snapshot, base) if different else {}
    return {
        name: Known(
            fingerprint=earlier.get(name),
            changed=changed.get(name, ()) if name in different else None,
        )
        for name in snapshot.candidates
    }


def candidates_of(
    project: Project, snapshot: Snapshot, base: Commit
) -> Mapping[str, Candidate] | None:
    """The stages of a commit, by its own configuration; None if it has none."""
    text = project.repository.objects([f"{base.oid}:{project.config_path}"])[0]
    if text is None:
        return None
    settings = project.config
    if text.body != project.config_text:
        settings = config.load(text.body, name=project.config_path)
    if project.config.viewed is not None:
        settings = settings.at(project.config.viewed)
    contents = snapshot.contents.of(base.tree, patterns_of(settings))
    return make_candidates(settings, contents, project.env, known=snapshot.candidates)


def changed_paths(
    project: Project, snapshot: Snapshot, commit: Commit
) -> dict[str, tuple[bytes, ...]]:
    """The paths that differ between a commit and the snapshot, of each stage that has any."""
    return tree_files.changed(project.repository, commit.tree, snapshot.tree, snapshot.index)


class ChangesSince:
    """What differs from the commits that the ledger's records name; each is compared once."""

    def __init__(self, project: Project, snapshot: Snapshot) -> None:
        self._project = project
        self._snapshot = snapshot
        self._compared: dict[str, dict[str, tuple[bytes, ...]] | None] = {}

    def of(self, stage: str, commit: str | None) -> tuple[bytes, ...] | None:
        """The stage's paths that differ; None where the commit is not in this clone."""
        if commit is None:
            return None
        if commit not in self._compared:
            found = self._project.repository.commit(commit)
            self._compared[commit] = (
                changed_paths(self._project, self._snapshot, found) if found is not None else None
            )
        changed = self._compared[commit]
        return changed.get(stage, ()) if changed is not None else None
