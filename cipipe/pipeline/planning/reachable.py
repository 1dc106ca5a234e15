"""The ledger for a plan, which needs no credentials: without them it compares with a commit."""

from cipipe.errors import IdentityError
from cipipe.ledger import Ledger
from cipipe.pipeline.identity.access import can_connect, missing_token_hint
from cipipe.pipeline.session import Session

_INSTEAD = "comparing with a commit, not with what is deployed"


def ledger_if_reachable(session: Session) -> Ledger | None:
    """The ledger; None, with a warning, where this process has no identity
    at AWS.

    A job whose token is refused is an error: what its plan would be
    compared with is unknown. Raises IdentityError.
    """
    project = session.project
    mode = session.project.context.mode
    warn = session.progress.warning
    if not can_connect(project, session.target):
        warn(f"no AWS credentials here: {_INSTEAD}")
        return None
    hint = None if session.sandbox else missing_token_hint(project, mode)
    if hint is not None:
        warn(f"this job has no ID token: {_INSTEAD}. {hint}")
        return None
    try:
        access = session.connect(mode, read_only=True)
    except IdentityError as error:
        # A person's own credentials may have expired, which does not matter
        # for a plan.
        if project.context.provider != "local" or session.sandbox:
            raise
        warn(f"{_INSTEAD}: {error.message}")
        return None
    return session.ledger(access)
