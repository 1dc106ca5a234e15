"""`cipipe iac unlock`: release the lock on a stage's Terraform state that a killed run left."""

from cipipe.model import Mode
from cipipe.pipeline.checks.refusals import refuse_ref
from cipipe.pipeline.identity.profile import served
from cipipe.pipeline.identity.role_session import merge_request_read_only
from cipipe.pipeline.planning.snapshot import read_snapshot
from cipipe.pipeline.planning.stage_lookup import stage_of_kind
from cipipe.pipeline.session import Session
from cipipe.stages import terraform as kind
from cipipe.stages.terraform.root import Root, client


def unlock(session: Session, *, stage: str | None, lock_id: str) -> None:
    """Release a state lock, as the deploy role. Raises UsageError, RefusedError, StageError."""
    project = session.project
    name = session.environment_name
    if project.context.mode is Mode.VERIFY:
        raise merge_request_read_only(name)
    refuse_ref(session, Mode.DEPLOY)
    chosen = stage_of_kind(project.config, kind.NAME, stage)
    access = session.connect(Mode.DEPLOY)

    candidate = read_snapshot(project).candidates[chosen]
    settings = project.config.for_run(candidate.stage, name).settings
    with served(access, session.say) as access:
        root = Root(
            folder=project.repository.root / settings.root,
            shown=settings.root,
            stage=chosen,
            backend=kind.backend_of(settings, session.environment, sandbox=session.sandbox),
        )
        terraform = client(root, session.terraform(access.child_env))
        terraform.init()
        terraform.unlock(lock_id)
