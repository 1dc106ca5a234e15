"""What a plan is for, here and now: written into its description, and
compared with it later.
"""

import hashlib
from datetime import UTC, datetime

import msgspec

from cipipe.approvals import Content, Place
from cipipe.fingerprint import consumed, effective
from cipipe.ledger import Ledger
from cipipe.model import Owner
from cipipe.pipeline.alone import Alone
from cipipe.pipeline.approval.checks import Situation
from cipipe.saved_plans import SavedPlans
from cipipe.stages import terraform as kind


def situation(opened: Alone) -> Situation:
    """What a plan of this stage would be for."""
    contexts = opened.contexts
    session = contexts.session
    context = opened.context()
    backend = kind.backend_of(context.stage.settings, context.environment, sandbox=context.sandbox)
    settings = msgspec.json.encode(backend.written(), order="deterministic")
    candidate = contexts.result.snapshot.candidates[opened.stage.name]
    stored = contexts.result.stored.get(opened.stage.name)
    inputs = consumed(context.outputs, contexts.consumes(candidate))
    return Situation(
        place=Place(
            project=context.project,
            environment=context.environment_name,
            stage=opened.stage.name,
            account_id=session.environment.account_id,
            region=session.environment.region,
            backend=f"{backend.type} {hashlib.sha256(settings).hexdigest()[:20]}",
            workspace=backend.workspace or "default",
        ),
        content=Content(
            commit=context.commit,
            fingerprint=context.fingerprint,
            effective=effective(context.fingerprint, inputs),
            record=stored.etag if stored is not None else None,
        ),
        now=datetime.now(UTC),
    )


def saved_plans(ledger: Ledger, place: Place) -> SavedPlans:
    """The saved plans of an environment, beside its ledger."""
    return SavedPlans(
        bucket=ledger.bucket,
        ledger_prefix=ledger.prefix,
        owner=Owner(place.project, place.environment, place.stage),
    )
