"""A stage as it was deployed: its files and settings in the commit that its record names."""

import dataclasses
from typing import Any

import msgspec

from cipipe import tree_files
from cipipe.candidates import Candidate
from cipipe.model import Record
from cipipe.patterns import Patterns
from cipipe.pipeline.contexts import StageContexts
from cipipe.pipeline.planning.baseline import candidates_of
from cipipe.stages.context import StageContext
from cipipe.stagework import StageWork
from cipipe.tools.git.client import Commit


class DeployedStage(msgspec.Struct, frozen=True):
    """A stage in the commit that was deployed."""

    commit: Commit
    candidate: Candidate


def deployed_stage(
    contexts: StageContexts, record: Record, commit: Commit | None
) -> DeployedStage | None:
    """The stage in that commit; None where it does not give the fingerprint
    that was deployed. Raises CipipeError where its configuration cannot be
    read.
    """
    if commit is None:
        return None
    project = contexts.session.project
    found = candidates_of(project, contexts.result.snapshot, commit) or {}
    candidate = found.get(record.stage)
    if candidate is None or candidate.fingerprint != record.fingerprint:
        return None
    return DeployedStage(commit, candidate)


def deployed_context(work: StageWork, stage: DeployedStage) -> StageContext[Any]:
    """The stage's context, with the files and the settings of then."""
    name = stage.candidate.stage.name
    then = dataclasses.replace(work, candidates={**work.candidates, name: stage.candidate})
    (planned,) = (one for one in work.executable.plan.stages if one.name == name)
    now: StageContext[Any] = then.context_for(planned)
    return msgspec.structs.replace(
        now,
        commit=stage.commit.oid,
        commit_time=stage.commit.time,
        tree=stage.commit.tree,
        entries=tree_files.files(
            now.repository, stage.commit.tree, Patterns(stage.candidate.stage.paths)
        ),
        fingerprint=stage.candidate.fingerprint,
    )
