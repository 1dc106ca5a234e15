"""The kinds of stage. A new one is a module here that meets `base.Kind`, and a line in `KINDS`."""

from collections.abc import Iterable
from typing import Any

from cipipe.errors import Problem
from cipipe.stages import command, dags, image, terraform
from cipipe.stages.base import Kind
from cipipe.stages.settings import AnyStage

KINDS: dict[str, Kind[Any]] = {
    kind.NAME: kind
    for kind in (
        terraform,
        image,
        dags,
        command,
    )
}


def clashes(stages: Iterable[AnyStage]) -> Iterable[Problem]:
    """Problems of stages that are each valid but clash; `where` is the whole key path."""
    return dags.clashes([stage for stage in stages if stage.kind == dags.NAME])
