"""Contexts for steps that are tested without a runner."""

from typing import Any

from cipipe.stages.context import StageContext

_REQUIRED = StageContext.__struct_fields__[: -len(StageContext.__struct_defaults__)]


def stage_context(**given: Any) -> StageContext[Any]:
    """A context with these fields. Required ones that are not given are None."""
    return StageContext(**{**dict.fromkeys(_REQUIRED), **given})
