"""The commit that a command works on, with the fingerprint of every stage in it."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cipipe import tree_files
from cipipe.candidates import Candidate, make_candidates
from cipipe.config import Config
from cipipe.contents import Contents
from cipipe.errors import UsageError
from cipipe.model import State
from cipipe.patterns import PatternIndex, Patterns
from cipipe.pipeline.project import Project
from cipipe.stages import KINDS
from cipipe.stages.settings import references

if TYPE_CHECKING:
    from cipipe.ledger import StoredRecord
    from cipipe.tools.git.client import Entry


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """HEAD, or the files on disk, as stages see them."""

    commit: str
    # The id of the commit's tree, or of one that was made from the files on
    # disk.
    tree: str
    # Seconds since 1970.
    time: int
    # By name of the stage, as the next one.
    candidates: Mapping[str, Candidate]
    patterns: Mapping[str, Patterns]
    # What was read of the tree, so that a second commit costs only what
    # differs.
    contents: Contents

    @functools.cached_property
    def index(self) -> PatternIndex:
        """The patterns, to find the stages of a path. Made once: there may
        be many commits to compare with.
        """
        return PatternIndex(self.patterns)


def read_snapshot(project: Project, *, worktree: bool = False) -> Snapshot:
    """Read HEAD, or with `worktree` the files on disk. Raises UsageError `git-no-commit`."""
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
        import tempfile  # takes as long to import as half of a plan

        # An index of its own, so that the user's is not touched.
        with tempfile.TemporaryDirectory(prefix="cipipe-") as folder:
            tree = project.repository.worktree_tree(Path(folder) / "index")

    patterns = patterns_of(project.config)
    contents = Contents(project.repository)
    candidates = make_candidates(project.config, contents.of(tree, patterns), project.env)
    return Snapshot(
        commit=head.oid,
        tree=tree,
        time=head.time,
        candidates=candidates,
        patterns=patterns,
        contents=contents,
    )


def patterns_of(config: Config) -> dict[str, Patterns]:
    """The path patterns of every stage."""
    return {name: Patterns(stage.paths) for name, stage in config.stages.items()}


def fingerprints_in(project: Project, snapshot: Snapshot, environment: str) -> dict[str, str]:
    """The fingerprints of the stages in another environment, which may have other values."""
    config = project.config.at(environment)
    contents = snapshot.contents.of(snapshot.tree, patterns_of(config))
    candidates = make_candidates(config, contents, project.env, known=snapshot.candidates)
    return {name: candidate.fingerprint for name, candidate in candidates.items()}


def consumed_outputs(
    project: Project, snapshot: Snapshot, candidate: Candidate, stored: "StoredRecord | None"
) -> frozenset[str]:
    """The names of the outputs that a stage's settings and files refer to."""
    stage = candidate.stage
    recorded: Mapping[str, object] = {}
    if stored is not None:
        record = stored.record
        # Another fingerprint means other files, which may refer to other
        # outputs.
        if record.state is State.DEPLOYED and record.fingerprint == candidate.fingerprint:
            recorded = record.data

    def files() -> "Iterator[Entry]":
        # Read only when the kind looks at them: most kinds do not.
        yield from tree_files.files(
            project.repository, snapshot.tree, snapshot.patterns[stage.name]
        )

    named = (reference.output for _, reference in references(stage.settings))
    settings = frozenset(output for output in named if output is not None)
    return settings | KINDS[stage.kind].consumes(stage, files(), project.repository, recorded)
