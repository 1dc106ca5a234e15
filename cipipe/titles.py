"""What a step is called where it is shown: in a plan, and while it runs.

A title shows what is known by then. What is not stays a placeholder with the name of the output:
`{dags_bucket}`.
"""

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
    """The steps of a stage in an environment, whose `{environment}`, `{account_id}` and the like
    are filled in.
    """
    return KINDS[stage.kind].steps(in_environment(config, environment, stage), mode, tag=tag)


def in_environment(config: Config, environment: str, stage: AnyStage) -> AnyStage:
    """The stage as it runs in an environment, but for outputs."""
    return config.for_run(stage, environment)


def planned(steps: Iterable[Step], settings: Any, known: Mapping[str, Output]) -> tuple[str, ...]:
    """Titles before anything has run. `known` are the outputs that will still be the same then."""
    given = {}
    for _, reference in references(settings):
        name = reference.output or ""
        unset = name not in known or known[name].value is None
        if known and unset and reference.default is not None:
            given[name] = reference.default
        elif name in known:
            try:
                given[name] = outputs.text(name, known, stage="")
            except StageError:  # which the run reports
                continue
    return tuple(outputs.filled(step.title, known, given) for step in steps)


def running(step: Step, before: Any, settings: Any, known: Mapping[str, Output]) -> str:
    """A title while the stage runs: `settings` are those of `before` with every reference resolved
    that can be.
    """
    found = dict(strings(settings))
    given = {r.output: found[key] for key, r in references(before) if r.output and key in found}
    return outputs.filled(step.title, known, given)
