"""`cipipe iac unlock`: release the lock on a stage's Terraform state that a killed run left."""

from cipipe.pipeline.infrastructure.state_client import state_client
from cipipe.pipeline.session import Session


def unlock(session: Session, *, stage: str | None, lock_id: str) -> None:
    """Release a state lock, as the deploy role. Raises UsageError, RefusedError, StageError."""
    with state_client(session, stage) as client:
        client.terraform.unlock(lock_id)
