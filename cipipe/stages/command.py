"""The `command` kind: argument lists, run in order at the top of the repository, without a shell."""

from collections.abc import Callable, Iterable
from functools import partial

from cipipe.errors import Problem
from cipipe.model import Effect, Mode
from cipipe.stages.base import (
    Input,
    Setting,
    Stage,
    StageRun,
    Step,
    consumes_nothing,
    has_no_place,
    literal,
    needs_no_file,
    owns_nothing,
)
from cipipe.stages.base import Settings as BaseSettings
from cipipe.tools.git.client import Repository

NAME = "command"

PATHS = ()

consumes, owns, places, needed = consumes_nothing, owns_nothing, has_no_place, needs_no_file


class Settings(BaseSettings, frozen=True):
    """`run` is a list of commands, each a list of arguments; `env` is added to their environment."""

    run: tuple[tuple[str, ...], ...]
    env: dict[str, Setting] = {}


def problems(stage: Stage) -> Iterable[Problem]:
    for number, argv in enumerate(stage.settings.run):
        if not argv or not argv[0]:
            yield Problem("config-empty-command", "the command is empty", f"run[{number}]")


def tools(stage: Stage) -> tuple[str, ...]:  # noqa: ARG001
    return ()


def inputs(stage: Stage, repository: Repository, tree: str) -> Iterable[Input]:  # noqa: ARG001
    return ()


def steps(stage: Stage, mode: Mode, *, tag: str) -> tuple[Step, ...]:  # noqa: ARG001
    """A command may do anything, so that it counts as a write; merge requests and destroy leave it
    out.
    """
    if mode is not Mode.DEPLOY:
        return ()
    import shlex

    return tuple(
        Step(shlex.join(argv), Effect.WRITE, _runner(index))
        for index, argv in enumerate(stage.settings.run)
    )


def _runner(index: int) -> Callable[[StageRun], None]:
    return partial(_run, index)


def _run(index: int, run: StageRun) -> None:
    from cipipe.tools import process

    settings: Settings = run.stage.settings
    extra = {name: literal(value) for name, value in settings.env.items()}
    process.stream(
        settings.run[index],
        env={**run.child_env, **extra},
        line=run.line,
        cwd=run.repository.root,
        redactor=run.redactor,
        interrupt=run.interrupt,
    )
    run.made = f"{len(settings.run)} command{'s' if len(settings.run) != 1 else ''}"
