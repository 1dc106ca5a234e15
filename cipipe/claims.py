"""Claims: whose a Terraform state or an image repository is, written beside the ledger by the first
who uses it.

The configuration cannot tell that an output of two environments is one repository, nor what other
projects use. A claim is created conditionally, so of two that come at once one loses. It is a
safeguard against mistakes, not against attackers.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import msgspec

from cipipe import bounded
from cipipe.errors import RefusedError, StageError
from cipipe.model import SCHEMA, Owner
from cipipe.tools.aws.errors import AwsError
from cipipe.tools.aws.s3 import Bucket

PREFIX = "owners/"

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9/:._-]{0,900}")


class Claimed(msgspec.Struct, frozen=True):
    """A place that has one owner. `type` and `name` make the key of the claim; `shown` is for
    people.

    `by_stage`: it belongs to one stage, and not to the whole environment. `kept`: this environment
    is never destroyed.
    """

    type: str
    name: str
    shown: str
    by_stage: bool
    kept: bool = False


class Claim(msgspec.Struct, frozen=True):
    """A claim as it is stored. `kept`: its owner may not be destroyed, so others like that may use
    the place as well.
    """

    schema: int
    project: str
    environment: str
    stage: str
    place: str
    since: str
    kept: bool = False

    @property
    def owner(self) -> Owner:
        return Owner(self.project, self.environment, self.stage)


@dataclass(frozen=True)
class Claims:
    """What one stage claims. `siblings` are the other stages of its environment, `warn` gets what
    could not be checked.
    """

    bucket: Bucket
    owner: Owner
    places: tuple[Claimed, ...]
    siblings: frozenset[str] = frozenset()
    warn: Callable[[str], None] = lambda _: None

    def check(self, *, strictly: bool = False) -> None:
        """Raise RefusedError (`place-not-ours`) where a place is another's. `strictly`: not knowing
        is an error, too.
        """
        for place in self.places:
            self._asking(partial(self._held, place), place, strictly=strictly)

    def take(self) -> None:
        """Claim what nobody has claimed. Raises RefusedError where somebody was faster."""
        for place in self.places:
            self._asking(partial(self._take, place), place, strictly=False)

    def release(self) -> None:
        """Give up what is ours, once nothing is left in it."""
        for place in self.places:
            self._asking(partial(self._release, place), place, strictly=False)

    def _take(self, place: Claimed) -> None:
        held, etag = self._held(place)
        if held is not None and held.owner == self.owner:
            return
        if held is not None and not self._takes_over(held):
            return
        claim = Claim(
            schema=SCHEMA,
            project=self.owner.project,
            environment=self.owner.environment,
            stage=self.owner.stage,
            place=place.shown,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            kept=place.kept,
        )
        written = self.bucket.put(
            key_of(place),
            msgspec.json.format(msgspec.json.encode(claim), indent=2) + b"\n",
            content_type="application/json",
            owner=self.owner.text,
            if_match=etag,
            if_none_match=etag is None,
        )
        if written is None:
            self._held(
                place
            )  # which refuses, if it was somebody else and not our own write made again

    def _release(self, place: Claimed) -> None:
        held, _ = self._held(place)
        if held is not None and held.owner == self.owner:
            self.bucket.delete(key_of(place))

    def _held(self, place: Claimed) -> tuple[Claim | None, str | None]:
        """The claim on a place that this stage may use, and its ETag. Raises RefusedError where it
        may not.
        """
        stored = self.bucket.get(key_of(place))
        if stored is None:
            return None, None
        where = f"s3://{self.bucket.name}/{key_of(place)}"
        try:
            claim = bounded.decode(stored.body, type=Claim)
        except msgspec.MsgspecError as error:
            raise StageError(
                "claim-damaged",
                f"what says whose {place.shown} is cannot be read: {error}",
                hint="Delete the object, or restore its previous version.",
                where=where,
            ) from error
        if self._ours(claim, place) or (claim.kept and place.kept):
            return claim, stored.etag
        raise RefusedError(
            "place-not-ours",
            f"{place.shown} belongs to {claim.owner.named} since {claim.since[:10]}; this is {self.owner.named}",
            hint=f"Give {self.owner.environment} one of its own. If that owner no longer exists, delete {where}.",
            where=place.shown,
        )

    def _ours(self, claim: Claim, place: Claimed) -> bool:
        if (claim.project, claim.environment) != (self.owner.project, self.owner.environment):
            return False
        return not place.by_stage or claim.stage == self.owner.stage or self._takes_over(claim)

    def _takes_over(self, claim: Claim) -> bool:
        """Whether a claim is that of a stage of this environment that was renamed or taken out."""
        here = (claim.project, claim.environment) == (self.owner.project, self.owner.environment)
        return here and claim.stage not in self.siblings

    def _asking(self, ask: Callable[[], object], place: Claimed, *, strictly: bool) -> None:
        """Roles that an earlier version of `bootstrap` made may not read claims: a warning, no
        failure.
        """
        try:
            ask()
        except AwsError as error:
            if error.status != 403:
                raise
            told = f"this role may not ask whose {place.shown} is (s3://{self.bucket.name}/{key_of(place)}: {error.code})"
            if not strictly:
                self.warn(f"warning: {told}")
                return
            raise RefusedError(
                "claim-unreadable",
                f"{told}; nothing was deleted",
                hint="Run `cipipe bootstrap` again, or give the role s3:GetObject on the claims.",
                where=place.shown,
            ) from error


def key_of(place: Claimed) -> str:
    """Where the claim on a place lies in the ledger's bucket. Names of other forms may hold what is
    secret, or be long.
    """
    name = re.sub(
        r"^aws[a-z-]*:", "", place.name
    )  # the partition, which the ledger's bucket is in as well
    if not _PLAIN.fullmatch(name) or ".." in name:
        name = hashlib.sha256(place.name.encode()).hexdigest()
    return f"{PREFIX}{place.type}/{name}.json"
