"""What the bucket should contain: the aim of a deployment, or of a rollback."""

from collections.abc import Mapping
from typing import Any

import msgspec


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of the stage after this run, and what they contain."""

    # SHA-256 by key.
    hashes: Mapping[str, str] = {}
    # Contents by key: of all keys that are uploaded, at least.
    bodies: Mapping[str, bytes] = {}
    # `outputs` and `made_of` for the record, where they are known: see
    # `manifest`.
    made_from: Mapping[str, Any] = {}

    def with_bodies(self, more: Mapping[str, bytes]) -> "Desired":
        """The same, with the contents of more keys."""
        return msgspec.structs.replace(self, bodies={**self.bodies, **more})
