"""Descriptions of saved plans."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from cipipe.approvals import Content, Place, SavedPlan, Versions, new_id, times
from cipipe.model import Mode

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BODY = b"PK a plan, with the secret of the state"
PLACE = Place(
    project="shop",
    environment="live",
    stage="iac",
    account_id="111111111111",
    region="eu-central-1",
    backend="s3 0123",
    workspace="default",
)
CONTENT = Content(commit="c" * 40, fingerprint="f" * 64, effective="e" * 64, record='"etag"')
VERSIONS = Versions(cipipe="1.0.0", terraform="1.11.4", providers="a" * 64)


def saved(now: datetime = NOW, **changes: Any) -> SavedPlan:
    """The description of a plan that was saved then."""
    created, expires = times(now, hours=24)
    made = SavedPlan(
        schema=1,
        id=new_id("live", "iac", now),
        place=PLACE,
        content=CONTENT,
        versions=VERSIONS,
        mode=Mode.DEPLOY,
        sha256=hashlib.sha256(BODY).hexdigest(),
        counts={"create": 1},
        allow_replace=False,
        created_at=created,
        expires_at=expires,
        provider="gitlab",
        pipeline_url="https://ci/7",
        actor="ada",
    )
    return msgspec.structs.replace(made, **changes)
