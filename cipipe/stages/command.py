"""The `command` kind: commands without a shell, run in order at the top of the repository."""

from collections.abc import Iterable
from functools import partial

from cipipe.errors import Problem
from cipipe.model import Effect, Mode
from cipipe.stages.base import (
    Input,
    consumes_nothing,
    has_no_drift,
    has_no_resources,
    owns_nothing,
    requires_no_paths,
)
from cipipe.stages.context import StageContext, StageResult, Step
from cipipe.stages.settings import KindSettings, Setting, Stage, literal
from cipipe.tools.git.client import Repository

NAME = "command"

PATHS = ()
GIVES_OUTPUTS = False
HAS_DRIFT = False

consumes = consumes_nothing
owns = owns_nothing
resources = has_no_resources
drift = has_no_drift
required_paths = requires_no_paths


class CommandSettings(KindSettings, frozen=True):
    # Commands, each a list of arguments.
    run: tuple[tuple[str, ...], ...]
    # Added to their environment.
    env: dict[str, Setting] = {}


Settings = CommandSettings


def problems(stage: Stage[CommandSettings]) -> Iterable[Problem]:
    for number, argv in enumerate(stage.settings.run):
        if not argv or not argv[0]:
            yield Problem("config-empty-command", "the command is empty", f"run[{number}]")


def tools(stage: Stage[CommandSettings]) -> tuple[str, ...]:
    return ()


def inputs(stage: Stage[CommandSettings], repository: Repository, tree: str) -> Iterable[Input]:
    return ()


def steps(stage: Stage[CommandSettings], mode: Mode, *, tag: str) -> tuple[Step, ...]:
    # A command may do anything, so it counts as a write, and runs in
    # deployments only.
    if mode is not Mode.DEPLOY:
        return ()
    import shlex

    return tuple(
        Step(shlex.join(argv), Effect.WRITE, partial(_run, index))
        for index, argv in enumerate(stage.settings.run)
    )


def _run(index: int, context: StageContext[CommandSettings], result: StageResult) -> None:
    from cipipe.tools import process

    # The settings of the context, and not those that the step was made
    # from: their references are resolved.
    settings = context.stage.settings
    env = {name: literal(value) for name, value in settings.env.items()}
    process.stream(
        settings.run[index],
        env={**context.child_env, **env},
        line=context.line,
        cwd=context.repository.root,
        watch=process.Watch(redactor=context.redactor, interrupt=context.interrupt),
    )
    plural = "s" if len(settings.run) != 1 else ""
    result.summary = f"{len(settings.run)} command{plural}"
