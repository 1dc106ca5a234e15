"""A plan as a file: the parts of `cipipe plan --format json` that `cipipe run --plan` reads."""

import msgspec

from cipipe import bounded
from cipipe.model import SCHEMA


class PlannedStage(msgspec.Struct, frozen=True):
    """What was planned for one stage."""

    name: str
    status: str
    fingerprint: str


class PlanFile(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a plan that must not have changed when it is run."""

    schema: int
    environment: str
    commit: str
    stages: tuple[PlannedStage, ...]


def parse(document: bytes) -> PlanFile:
    """The plan in a JSON document. Raises ValueError if it is not one, or of another version."""
    found = msgspec.convert(bounded.loads(document), PlanFile)
    if found.schema != SCHEMA:
        raise ValueError(f"schema {found.schema} is unknown")
    return found
