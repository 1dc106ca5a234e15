"""A plan as a file: what `cipipe plan --format json` writes, as far as `cipipe run --plan` reads it."""

import msgspec

from cipipe import bounded
from cipipe.model import SCHEMA


class PlannedStage(msgspec.Struct, frozen=True):
    """What was planned for one stage."""

    name: str
    status: str
    fingerprint: str


class PlanFile(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a plan that a run must find unchanged."""

    schema: int
    environment: str
    commit: str
    stages: tuple[PlannedStage, ...]


def parse(document: bytes) -> PlanFile:
    """The plan in a JSON document. Raises ValueError where it is none, or of another version."""
    found = msgspec.convert(bounded.loads(document), PlanFile)
    if found.schema != SCHEMA:
        raise ValueError(f"schema {found.schema} is unknown")
    return found
