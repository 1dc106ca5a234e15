"""Terraform in a stage's root, as the deploy role, for commands outside of a run."""

import contextlib
from collections.abc import Iterator

import msgspec

from cipipe.model import Mode
from cipipe.pipeline.checks.refusals import refuse_ref
from cipipe.pipeline.identity.access import Access
from cipipe.pipeline.identity.profile import served
from cipipe.pipeline.identity.role_session import merge_request_read_only
from cipipe.pipeline.planning.snapshot import read_snapshot
from cipipe.pipeline.planning.stage_lookup import stage_of_kind
from cipipe.pipeline.session import Session
from cipipe.stages import terraform as kind
from cipipe.stages.terraform.root import client
from cipipe.tools.terraform.client import Terraform


class StateClient(msgspec.Struct, frozen=True, kw_only=True):
    """Terraform of one stage, initialised."""

    stage: str
    # The folder that it runs in, relative to the top of the repository.
    root: str
    terraform: Terraform
    access: Access


@contextlib.contextmanager
def state_client(session: Session, stage: str | None) -> Iterator[StateClient]:
    """The client of this stage, or of the only one of its kind.

    Raises UsageError, RefusedError, StageError.
    """
    project = session.project
    name = session.environment_name
    if project.context.mode is Mode.VERIFY:
        raise merge_request_read_only(name)
    refuse_ref(session, Mode.DEPLOY)
    chosen = stage_of_kind(project.config, kind.NAME, stage)
    access = session.connect(Mode.DEPLOY)

    candidate = read_snapshot(project).candidates[chosen]
    resolved = project.config.for_run(candidate.stage, name)
    root = kind.root_of(
        resolved, session.environment, top=project.repository.root, sandbox=session.sandbox
    )
    with served(access, session.say) as access:
        terraform = client(root, session.terraform(access.child_env))
        terraform.init()
        yield StateClient(stage=chosen, root=root.shown, terraform=terraform, access=access)
