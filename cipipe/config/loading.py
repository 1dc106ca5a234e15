"""cipipe.toml → Config. Every problem of the file is collected before any is reported."""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from cipipe.config import names, references, resources, stage_tables
from cipipe.config.settings import (
    FILE_NAME,
    Bootstrap,
    Config,
    LedgerSettings,
    OidcSettings,
    ProjectSettings,
)
from cipipe.config.views import PLACEHOLDER, Expansion, stages_of
from cipipe.errors import Problem, ProblemsError, UsageError
from cipipe.graph import ordered
from cipipe.model import Environment
from cipipe.parse import Located, collect, converted, tables, within_limits
from cipipe.stages import KINDS, clashes
from cipipe.stages.settings import AnyStage, strings

# A file of hostile size must not keep a job busy for minutes: every stage
# is looked at in every environment. Projects have tens of stages; a
# thousand of them in a hundred environments is fine.
_MOST_TABLES = 10_000
_MOST_PAIRS = 100_000


class ConfigFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file as it is written. Tables of stages are parsed by `stage_tables`."""

    project: ProjectSettings
    environments: dict[str, Environment]
    stages: dict[str, Any]
    ledger: LedgerSettings = LedgerSettings()
    oidc: dict[str, OidcSettings] = {}
    bootstrap: Bootstrap = Bootstrap()


# Finds what else is wrong with a stage whose placeholders are filled in.
# `where` of its problems is the key below the stage's table.
StageCheck = Callable[[AnyStage], Iterable[Problem]]


def load(text: bytes, *, name: str = FILE_NAME, also: StageCheck = lambda _: ()) -> Config:
    """Parse and check a configuration. Raises ProblemsError with every
    problem, each with its line and key path.
    """
    table = _parsed(text, name)
    _refuse_too_large(table, name)
    problems = list(collect(table, ConfigFile, ""))

    # A stage that is wrong in itself is checked without its wrong keys, so
    # that all that is wrong with the file is reported at once.
    stages: dict[str, AnyStage] = {}
    partial: dict[str, AnyStage] = {}
    for stage_name, entry in tables(table, "stages").items():
        stage, found = stage_tables.parsed(stage_name, entry)
        problems += found
        if stage is not None:
            stages[stage_name] = stage
            continue
        rest = stage_tables.without_wrong_keys(stage_name, entry, found)
        if rest is not None:
            partial[stage_name] = rest

    cycles = list(names.cycles(table, stages))
    problems += names.problems(table)
    problems += cycles
    problems += references.problems(table, stages, partial)
    known = {problem.where for problem in problems}
    if cycles:
        stages = _without_needs(stages)
        partial = _without_needs(partial)
    problems += _in_environments(table, stages, partial, known=known, also=also)
    if problems:
        located = Located(text.decode(errors="replace"), name)
        raise ProblemsError(
            "config-invalid",
            f"{name} has {len(problems)} problem{'s' if len(problems) != 1 else ''}",
            tuple(located.place(problem) for problem in problems),
        )

    file = msgspec.convert(table, ConfigFile)
    order = ordered({stage_name: stage.needs for stage_name, stage in stages.items()})
    return Config(
        project=file.project,
        ledger=file.ledger,
        oidc=file.oidc,
        bootstrap=file.bootstrap,
        environments=file.environments,
        stages={stage_name: stages[stage_name] for stage_name in order},
    )


def _parsed(text: bytes, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(within_limits(text.decode()))
    # Not TOML, not UTF-8, a number too long for Python, or tables nested
    # too deeply.
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        line = re.search(r"at line (\d+)", str(error))
        raise UsageError(
            "config-not-toml",
            f"{name} is not TOML: {why}",
            hint="toml.io/en/v1.0.0 has the syntax in full.",
            where=f"{name}:{line[1]}" if line else name,
        ) from error


def _refuse_too_large(table: Mapping[str, Any], name: str) -> None:
    stages = len(tables(table, "stages"))
    environments = len(tables(table, "environments"))
    if stages + environments > _MOST_TABLES or stages * environments > _MOST_PAIRS:
        raise UsageError(
            "config-too-large",
            f"{name} has {stages:,} stages and {environments:,} environments",
            hint=f"cipipe checks {_MOST_TABLES:,} of both together, and {_MOST_PAIRS:,} stages "
            "times environments, at most.",
            where="stages" if stages > environments else "environments",
        )


def _in_environments(
    table: Mapping[str, Any],
    stages: Mapping[str, AnyStage],
    partial: Mapping[str, AnyStage],
    *,
    known: set[str],
    also: StageCheck,
) -> Iterator[Problem]:
    """What is wrong once placeholders are filled in. Settings that are
    wrong as they are (`known`) are left out.

    Of stages of which settings were left out (`partial`), only the settings
    that are there are checked, each by itself.
    """
    environments = {
        name: environment
        for name, entry in tables(table, "environments").items()
        if (environment := converted(entry, Environment)) is not None
    }
    project = converted(table.get("project"), ProjectSettings)
    if project is None or not environments:
        return

    declared = tables(table, "stages")
    reported = set(known)
    views = {}
    for name, environment in environments.items():
        expansion = Expansion(project.name, name, environment)
        views[name] = here = [
            expansion.for_run(stage) for stage in stages_of(stages, name).values()
        ]
        rest = [expansion.for_run(stage) for stage in stages_of(partial, name).values()]
        found = [
            *references.in_environment(
                name=name, values=environment.values, stages=stages, declared=declared
            ),
            *_of_stages(here, also),
            *clashes(here),
            *(problem for problem in _of_stages(rest, also) if _is_set(declared, problem.where)),
        ]
        for problem in found:
            if problem.where not in reported:
                reported.add(problem.where)
                yield problem

    ledger = converted(table.get("ledger"), LedgerSettings) or LedgerSettings()
    for problem in resources.shared(
        project=project.name, ledger=ledger, environments=environments, views=views
    ):
        if problem.where not in reported:
            yield problem


def _of_stages(stages: Iterable[AnyStage], also: StageCheck) -> Iterator[Problem]:
    """What the kinds find wrong with settings whose placeholders are filled in."""
    for stage in stages:
        found = [*KINDS[stage.kind].problems(stage), *also(stage)]
        if not found:
            continue
        # A text that still has a placeholder was reported for that. Not one
        # of a command: its arguments may contain braces of their own.
        unknown = {
            re.sub(r"\.(\d+)", r"[\1]", key)
            for key, text in strings(stage.settings)
            if PLACEHOLDER.search(text) and stage.kind != "command"
        }
        for problem in found:
            if problem.where not in unknown:
                where = f"stages.{stage.name}.{problem.where}"
                yield msgspec.structs.replace(problem, where=where)


def _is_set(declared: Mapping[str, Any], where: str) -> bool:
    """Whether the file has that setting: defaults of those that were left out do not count."""
    stage, key = where.split(".")[1:3]
    return re.split(r"\W", key)[0] in tables(declared, stage)


def _without_needs(stages: Mapping[str, AnyStage]) -> dict[str, AnyStage]:
    return {name: msgspec.structs.replace(stage, needs=()) for name, stage in stages.items()}
