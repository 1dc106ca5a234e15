"""The titles of steps, in a plan and while they run, with the outputs
filled in that are known.

An output that is not known yet stays a placeholder with its name:
`{dags_bucket}`.
"""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from cipipe import outputs
from cipipe.config import Config
from cipipe.errors import StageError
from cipipe.model import Mode, Output
from cipipe.stages import KINDS
from cipipe.stages.context import Step
from cipipe.stages.settings import AnyStage, references, strings


def steps_of(
    config: Config, environment: str, stage: AnyStage, mode: Mode, *, tag: str
) -> tuple[Step, ...]:
    """The steps of a stage in an environment: `{environment}`,
    `{account_id}` and other placeholders are filled in.
    """
    return KINDS[stage.kind].steps(config.for_run(stage, environment), mode, tag=tag)


def in_plan(steps: Iterable[Step], settings: Any, known: Mapping[str, Output]) -> tuple[str, ...]:
    """The titles in a plan. `known` are the outputs of stages that stay as they are."""
    given = {}
    for _, reference in references(settings):
        name = reference.output or ""
        unset = name not in known or known[name].value is None
        if known and unset and reference.default is not None:
            given[name] = reference.default
        elif name in known:
            # An output that cannot be used is an error of the run, not of
            # the plan.
            with contextlib.suppress(StageError):
                given[name] = outputs.text(name, known, stage="")
    return tuple(outputs.filled(step.title, known, given) for step in steps)


def in_run(step: Step, before: Any, settings: Any, known: Mapping[str, Output]) -> str:
    """A title while the stage runs. `settings` are those of `before`, with
    the references resolved that can be.
    """
    found = dict(strings(settings))
    given = {r.output: found[key] for key, r in references(before) if r.output and key in found}
    return outputs.filled(step.title, known, given)
