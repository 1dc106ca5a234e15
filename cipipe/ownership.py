"""Who owns a Terraform state or an image repository: a claim beside the
ledger, written by the first stage that uses it.

The configuration cannot show that an output of two environments is one
repository, nor what other projects use. A claim is created conditionally,
so of two stages that come at once one loses. It protects against mistakes,
not against attackers.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import msgspec

from cipipe import bounded
from cipipe.errors import RefusedError, StageError
from cipipe.model import SCHEMA, Owner
from cipipe.tools.aws.errors import AwsError
from cipipe.tools.aws.s3 import Bucket

T = TypeVar("T")

PREFIX = "owners/"

# Names that are used in a key as they are.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9/:._-]{0,900}")


class OwnedResource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that has one owner."""

    # Together they make the key of the claim.
    type: str
    name: str

    # The resource as messages name it.
    shown: str

    # It belongs to one stage, and not to the whole environment.
    by_stage: bool

    # The environment is never destroyed, and the resource with it.
    kept: bool = False


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim as it is stored."""

    schema: int
    project: str
    environment: str
    stage: str

    # The resource as messages name it.
    place: str

    # ISO 8601, UTC.
    since: str

    # The owner may not be destroyed, so others like that may use the
    # resource as well.
    kept: bool = False

    @property
    def owner(self) -> Owner:
        return Owner(self.project, self.environment, self.stage)


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """The resources of one stage, to be checked, claimed and released."""

    # The ledger's.
    bucket: Bucket

    owner: Owner
    resources: tuple[OwnedResource, ...]

    # The other stages of the environment.
    siblings: frozenset[str] = frozenset()

    # Gets a line for what could not be checked.
    warn: Callable[[str], None] = lambda _: None

    def check(self, *, strictly: bool = False) -> bool:
        """Whether this stage has claimed all its resources already.

        Raises RefusedError (`place-not-ours`) if somebody else owns one.
        `strictly`: not knowing is an error, too.
        """
        claimed = [
            self._allowed(partial(self._is_claimed, resource), resource, strictly=strictly)
            for resource in self.resources
        ]
        return all(claimed)

    def claim(self) -> None:
        """Claim what nobody has claimed. Raises RefusedError if somebody was faster."""
        for resource in self.resources:
            self._allowed(partial(self._claim, resource), resource)

    def release(self) -> None:
        """Delete the claims on what is ours, once nothing is left in it."""
        for resource in self.resources:
            self._allowed(partial(self._release, resource), resource)

    def _is_claimed(self, resource: OwnedResource) -> bool:
        found, _ = self._read(resource)
        return found is not None and found.owner == self.owner

    def _claim(self, resource: OwnedResource) -> None:
        found, etag = self._read(resource)
        if found is not None and (found.owner == self.owner or not self._is_abandoned(found)):
            return
        claim = Claim(
            schema=SCHEMA,
            project=self.owner.project,
            environment=self.owner.environment,
            stage=self.owner.stage,
            place=resource.shown,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            kept=resource.kept,
        )
        written = self.bucket.put(
            key_of(resource),
            msgspec.json.format(msgspec.json.encode(claim), indent=2) + b"\n",
            content_type="application/json",
            owner=self.owner.text,
            if_match=etag,
            if_none_match=etag is None,
        )
        if written is None:
            # Somebody's write came first: this refuses, unless it was our
            # own, sent twice.
            self._read(resource)

    def _release(self, resource: OwnedResource) -> None:
        found, _ = self._read(resource)
        if found is not None and found.owner == self.owner:
            self.bucket.delete(key_of(resource))

    def _read(self, resource: OwnedResource) -> tuple[Claim | None, str | None]:
        """The claim on a resource that this stage may use, and its ETag.
        Raises RefusedError if it may not.
        """
        stored = self.bucket.get(key_of(resource))
        if stored is None:
            return None, None
        where = f"s3://{self.bucket.name}/{key_of(resource)}"
        try:
            claim = bounded.decode(stored.body, type=Claim)
        except msgspec.MsgspecError as error:
            raise StageError(
                "claim-damaged",
                f"the record of who owns {resource.shown} cannot be read: {error}",
                hint="Delete the object, or restore its previous version.",
                where=where,
            ) from error
        if self._is_ours(claim, resource) or (claim.kept and resource.kept):
            return claim, stored.etag
        raise RefusedError(
            "place-not-ours",
            f"{resource.shown} belongs to {claim.owner.named} since {claim.since[:10]}; "
            f"this is {self.owner.named}",
            hint=f"Give {self.owner.environment} one of its own. If that owner no longer exists, "
            f"delete {where}.",
            where=resource.shown,
        )

    def _is_ours(self, claim: Claim, resource: OwnedResource) -> bool:
        if (claim.project, claim.environment) != (self.owner.project, self.owner.environment):
            return False
        if not resource.by_stage or claim.stage == self.owner.stage:
            return True
        return self._is_abandoned(claim)

    def _is_abandoned(self, claim: Claim) -> bool:
        """Whether a claim is that of a stage of this environment that was renamed or removed."""
        here = (claim.project, claim.environment) == (self.owner.project, self.owner.environment)
        return here and claim.stage not in self.siblings

    def _allowed(
        self, action: Callable[[], T], resource: OwnedResource, *, strictly: bool = False
    ) -> T | None:
        """Do something with a claim, and return its result.

        Roles that an earlier version of `bootstrap` made may not read
        claims: that is a warning, and an error only if `strictly`.
        """
        try:
            return action()
        except AwsError as error:
            if error.status != 403:
                raise
            message = (
                f"this role may not read who owns {resource.shown} "
                f"(s3://{self.bucket.name}/{key_of(resource)}: {error.code})"
            )
            if not strictly:
                self.warn(f"warning: {message}")
                return None
            raise RefusedError(
                "claim-unreadable",
                f"{message}; nothing was deleted",
                hint="Run `cipipe bootstrap` again, or give the role s3:GetObject on the claims.",
                where=resource.shown,
            ) from error


def key_of(resource: OwnedResource) -> str:
    """The key of the claim on a resource, in the ledger's bucket."""
    # Without the partition: the ledger's bucket is in the same one.
    name = re.sub(r"^aws[a-z-]*:", "", resource.name)
    # Names of other forms may be long, or contain a secret.
    if not _PLAIN.fullmatch(name) or ".." in name:
        name = hashlib.sha256(resource.name.encode()).hexdigest()
    return f"{PREFIX}{resource.type}/{name}.json"
