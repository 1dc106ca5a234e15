"""Saved Terraform plans, each with a description of what it was made for.

A plan has values of the state in it, secrets too. So plans have a prefix of
their own in the ledger's bucket, which the verify role may not read. A plan
is deleted as soon as it is used, or when it is too old to be.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from cipipe import bounded
from cipipe.approvals import MOST_HOURS, SavedPlan, as_text, is_older, refused_used, stage_of
from cipipe.errors import RefusedError, StageError
from cipipe.model import SCHEMA, Owner
from cipipe.tools.aws.errors import AwsError
from cipipe.tools.aws.s3 import Bucket, Encryption

PREFIX = "cipipe-plans/"
"""Comes before the ledger's own prefix. Not below the ledger, whose readers
may not read plans; and one for all environments, so that the bucket needs
one lifecycle rule.
"""


class StoredPlan(msgspec.Struct, frozen=True):
    """A description as it was read, and its ETag."""

    plan: SavedPlan
    etag: str


@dataclass(frozen=True, kw_only=True)
class SavedPlans:
    """The saved plans of one environment."""

    # The ledger's.
    bucket: Bucket
    # The ledger's as well, ending in a slash.
    ledger_prefix: str
    owner: Owner

    def save(self, plan: SavedPlan, body: bytes) -> None:
        """Store a plan and its description, encrypted as the bucket says, and
        delete those of the stage that are too old.
        """
        with self._access():
            self._sweep(plan)
            # The description first: what S3 answers says how the bucket
            # encrypts.
            described = self.bucket.put(
                self._key(plan.id, "json"),
                _encoded(plan),
                content_type="application/json",
                owner=self.owner.text,
                if_none_match=True,
            )
            encryption = described.encryption if described is not None else None
            self.bucket.put_encrypted(
                self._key(plan.id, "tfplan"),
                body,
                encryption or Encryption(),
                owner=self.owner.text,
            )

    def read(self, id: str) -> StoredPlan:
        """The description of a plan. Raises RefusedError `saved-plan-unknown`."""
        key = self._key(id, "json")
        with self._access():
            stored = self.bucket.get(key)
        if stored is None:
            raise RefusedError(
                "saved-plan-unknown",
                f"there is no saved plan {id}",
                hint="Copy the whole ID from the job that saved it, or save a new plan: saved "
                "plans are deleted after a while.",
                where=f"s3://{self.bucket.name}/{key}",
            )
        try:
            plan = bounded.decode(stored.body, type=SavedPlan)
        except msgspec.MsgspecError as error:
            raise self._damaged(id, f"its description cannot be read: {error}") from error
        if plan.schema != SCHEMA or plan.id != id:
            raise self._damaged(id, f"its description says schema {plan.schema}, ID {plan.id}")
        return StoredPlan(plan, stored.etag)

    def body(self, plan: SavedPlan) -> bytes:
        """The plan itself. Raises RefusedError `saved-plan-damaged` where one
        byte of it has changed.
        """
        with self._access():
            stored = self.bucket.get(self._key(plan.id, "tfplan"))
        if stored is None:
            raise self._damaged(plan.id, "its description is there, and the plan itself is not")
        found = hashlib.sha256(stored.body).hexdigest()
        if found != plan.sha256:
            raise self._damaged(plan.id, f"its SHA-256 was {plan.sha256} and is {found}")
        return stored.body

    def use(self, stored: StoredPlan, *, by: str) -> None:
        """Mark a plan as used, and delete it. Raises RefusedError
        `saved-plan-used` if somebody was faster.
        """
        plan = stored.plan
        used = msgspec.structs.replace(plan, used_at=as_text(datetime.now(UTC)), used_by=by)
        with self._access():
            written = self.bucket.put(
                self._key(plan.id, "json"),
                _encoded(used),
                content_type="application/json",
                owner=self.owner.text,
                if_match=stored.etag,
            )
            if written is None:
                now = self.read(plan.id).plan
                # Our own write, if its first answer was lost.
                if now != used:
                    raise refused_used(now)
            self.bucket.purge(self._key(plan.id, "tfplan"))

    def _sweep(self, plan: SavedPlan) -> None:
        """Delete every version of the stage's plans that are too old to be applied."""
        oldest = datetime.now(UTC) - timedelta(hours=MOST_HOURS)
        for version in self.bucket.versions(f"{self._folder(plan.place.stage)}/"):
            name = version.key.rpartition("/")[2]
            if is_older(name.rpartition(".")[0], oldest):
                self.bucket.delete(version.key, version.id)

    def _folder(self, stage: str) -> str:
        return f"{PREFIX}{self.ledger_prefix}{stage}"

    def _key(self, id: str, ending: str) -> str:
        return f"{self._folder(stage_of(id))}/{id}.{ending}"

    @contextmanager
    def _access(self) -> Iterator[None]:
        """Roles that an earlier version of `bootstrap` made have no access."""
        try:
            yield
        except AwsError as error:
            if error.status != 403:
                raise
            raise StageError(
                "saved-plans-denied",
                f"this role may not read and write saved plans: {error.code}: {error.text}",
                hint="Run `cipipe bootstrap` again. Only the role that deploys gets access.",
                where=f"s3://{self.bucket.name}/{PREFIX}{self.ledger_prefix}",
            ) from error

    def _damaged(self, id: str, why: str) -> RefusedError:
        return RefusedError(
            "saved-plan-damaged",
            f"the saved plan {id} is damaged: {why}",
            hint="Nothing was applied. Save a new plan, and have it approved.",
            where=f"s3://{self.bucket.name}/{self._key(id, 'tfplan')}",
        )


def _encoded(plan: SavedPlan) -> bytes:
    return msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n"
