"""What merge requests showed to their reviewers, so that a deployment can compare with it.

A review is an object in the ledger's bucket, below the fingerprint of the
content that it was made for: a squash or a rebase changes the commit and
not the content. The verify role may create these objects and write nothing
else; none is ever written twice.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from cipipe import bounded
from cipipe.model import SCHEMA, Context, Owner, Review
from cipipe.tools.aws.s3 import Bucket


class StoredReview(msgspec.Struct, frozen=True, kw_only=True):
    """What one job of a merge request showed."""

    schema: int
    project: str
    environment: str
    stage: str
    fingerprint: str

    # Of `changes`, and the object's name.
    digest: str

    # For people: where it was shown.
    commit: str | None
    merge_request: int | None
    pipeline_url: str | None
    # ISO 8601, UTC.
    stored_at: str

    # In the form of the stage's kind. No values, only their hashes.
    changes: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reviews:
    """The reviews of one environment, and what it does with them."""

    bucket: Bucket
    # That of the ledger. Ends with a slash.
    prefix: str
    project: str
    environment: str
    # What this job is.
    context: Context
    policy: Review

    def store(self, stage: str, fingerprint: str, digest: str, changes: dict[str, Any]) -> bool:
        """Keep what was shown. False where it is there already. Raises AwsError."""
        review = StoredReview(
            schema=SCHEMA,
            project=self.project,
            environment=self.environment,
            stage=stage,
            fingerprint=fingerprint,
            digest=digest,
            commit=self.context.commit,
            merge_request=self.context.merge_request,
            pipeline_url=self.context.pipeline_url,
            stored_at=datetime.now(UTC).isoformat(timespec="seconds"),
            changes=changes,
        )
        written = self.bucket.put(
            f"{self._folder(stage, fingerprint)}{digest}.json",
            msgspec.json.format(msgspec.json.encode(review), indent=2) + b"\n",
            content_type="application/json",
            owner=Owner(self.project, self.environment, stage).text,
            if_none_match=True,
        )
        return written is not None

    def of(self, stage: str, fingerprint: str) -> tuple[StoredReview, ...]:
        """What was shown for this content, the latest first. What cannot be read shows nothing."""
        found = []
        for key in self.bucket.keys(self._folder(stage, fingerprint)):
            stored = self.bucket.get(key)
            try:
                review = bounded.decode(stored.body, type=StoredReview) if stored else None
            except msgspec.MsgspecError:
                continue
            if review is not None and self._ours(review, stage, fingerprint):
                found.append(review)
        return tuple(sorted(found, key=lambda review: review.stored_at, reverse=True))

    def _folder(self, stage: str, fingerprint: str) -> str:
        return f"{self.prefix}reviews/{stage}/{fingerprint}/"

    def _ours(self, review: StoredReview, stage: str, fingerprint: str) -> bool:
        wanted = (SCHEMA, self.project, self.environment, stage, fingerprint)
        named = (
            review.schema,
            review.project,
            review.environment,
            review.stage,
            review.fingerprint,
        )
        return wanted == named
