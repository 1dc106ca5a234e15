"""The use cases of `cipipe iac`: one `terraform` stage on its own."""

from typing import TYPE_CHECKING

import msgspec

from cipipe.pipeline.alone import Opening, in_stage, opened
from cipipe.pipeline.checks.refusals import dirty_paths
from cipipe.pipeline.session import Session

if TYPE_CHECKING:
    from cipipe.stages.terraform.changes.model import ChangeSet


class PlannedChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage would change in an environment."""

    stage: str
    environment: str
    commit: str
    changes: "ChangeSet"


def plan_changes(session: Session, stage: str) -> PlannedChanges:
    """What applying the stage would change, with the outputs that the
    ledger has. Writes nothing, and locks nothing.
    """
    from cipipe.stages.terraform.changes.preview import preview

    with opened(session, stage, Opening(read_only=True)) as alone, in_stage():
        snapshot = alone.contexts.result.snapshot
        if dirty_paths(session.project, [snapshot.patterns[stage]]):
            session.progress.warning(
                "Terraform reads the files on disk, and they differ from the commit"
            )
        return PlannedChanges(
            stage=stage,
            environment=session.environment_name,
            commit=snapshot.commit,
            changes=preview(alone.context()),
        )
