"""Where a stage's states are kept that an apply could not write."""

from cipipe.model import Owner
from cipipe.pipeline.identity.access import Access
from cipipe.pipeline.session import Session
from cipipe.rescued import RescuedStates


def rescued_states(session: Session, access: Access, stage: str) -> RescuedStates:
    """Those of one stage, beside the ledger."""
    ledger = session.ledger(access)
    project = session.project.config.project.name
    return RescuedStates(
        bucket=ledger.bucket,
        ledger_prefix=ledger.prefix,
        owner=Owner(project, session.environment_name, stage),
    )
