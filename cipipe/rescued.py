"""Terraform states that an apply could not write, kept in the ledger's
bucket until somebody pushes them.

They are not below the ledger's prefix, so that the deploy role alone reads
them.
"""

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cipipe.model import Owner

if TYPE_CHECKING:
    from cipipe.tools.aws.s3 import Bucket

PREFIX = "cipipe-recovery/"

_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")


@dataclass(frozen=True, kw_only=True)
class RescuedStates:
    """Those of one stage."""

    bucket: "Bucket"
    # The ledger's; ends with a slash.
    ledger_prefix: str
    owner: Owner

    def store(self, name: str, state: bytes) -> str:
        """Keep a state, encrypted as the bucket is, and return its URL. Raises AwsError."""
        key = self._key(name)
        self.bucket.put(
            key, state, content_type="application/json", owner=self.owner.text, if_none_match=True
        )
        return f"s3://{self.bucket.name}/{key}"

    def read(self, name: str) -> bytes | None:
        """The state; None where there is none of that name."""
        stored = self.bucket.get(self._key(name))
        return stored.body if stored else None

    def remove(self, name: str) -> None:
        """Delete all versions of the state. It is fine when there is none."""
        self.bucket.purge(self._key(name))

    def _key(self, name: str) -> str:
        return f"{PREFIX}{self.ledger_prefix}{self.owner.stage}/{name}.tfstate"


def new_name() -> str:
    """A name for a state: the time, so that people find it, and something random."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def is_name(text: str) -> bool:
    """Whether `new_name` makes such names. Others may be paths."""
    return _ID.fullmatch(text) is not None
