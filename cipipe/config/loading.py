"""cipipe.toml → Config. Every problem of the file is collected before any is reported.

A kind parses its own settings: this module asks the registry in `stages`.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from cipipe.config import naming, resources
from cipipe.config.naming import NAME, converted, tables
from cipipe.config.settings import (
    FILE_NAME,
    PLACEHOLDER,
    Bootstrap,
    Config,
    LedgerSettings,
    OidcSettings,
    ProjectSettings,
    StageTable,
    filled,
    stages_of,
)
from cipipe.errors import Problem, ProblemsError, UsageError
from cipipe.graph import ordered
from cipipe.model import Environment
from cipipe.parse import Located, collect, nearest, within_limits
from cipipe.patterns import complaint
from cipipe.stages import KINDS, clashes
from cipipe.stages.settings import AnyStage, Stage, strings

_MOST = 200
"""Stages, environments, and problems that are shown. Each stage is held against all others, in each
environment.
"""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    project: ProjectSettings
    environments: dict[str, Environment]
    stages: dict[str, Any]
    ledger: LedgerSettings = LedgerSettings()
    oidc: dict[str, OidcSettings] = {}
    bootstrap: Bootstrap = Bootstrap()


Look = Callable[[AnyStage], Iterable[Problem]]
"""What else is wrong with a stage whose placeholders are filled in; `where` is the key below its
table.
"""


def load(text: bytes, *, name: str = FILE_NAME, also: Look = lambda _: ()) -> Config:
    """Parse and check a configuration. Raises ProblemsError with every problem, each with its line
    and key path.
    """
    try:
        table = tomllib.loads(within_limits(text.decode()))
    except (
        ValueError,
        RecursionError,
    ) as error:  # not TOML, not UTF-8, an endless number, a nest without end
        line = re.search(r"at line (\d+)", str(error))
        raise UsageError(
            "config-not-toml",
            f"{name} is not TOML: {'it is nested too deeply' if isinstance(error, RecursionError) else error}",
            hint="toml.io/en/v1.0.0 has the syntax in full.",
            where=f"{name}:{line[1]}" if line else name,
        ) from error
    for key in ("stages", "environments"):
        if len(tables(table, key)) > _MOST:
            raise UsageError("config-too-large", f"{name} has more than {_MOST} {key}", where=key)
    problems = list(collect(table, _File, ""))
    stages: dict[str, AnyStage] = {}
    partial: dict[str, AnyStage] = {}
    for stage_name, entry in tables(table, "stages").items():
        stage, found = _stage(stage_name, entry)
        problems += found
        if stage is not None:
            stages[stage_name] = stage
        elif (rest := _without_wrong_keys(stage_name, entry, found)) is not None:
            partial[stage_name] = rest
    problems += naming.across(table, stages, partial)
    known = {problem.where for problem in problems}
    problems += _in_each_environment(table, stages, known, also, partial)
    if problems:
        located = Located(text.decode(errors="replace"), name)
        raise ProblemsError(
            "config-invalid",
            f"{name} has {len(problems)} problem{'s' if len(problems) != 1 else ''}",
            tuple(located.place(problem) for problem in problems[:_MOST]),
        )
    file = msgspec.convert(table, _File)
    order = ordered({stage_name: stage.needs for stage_name, stage in stages.items()})
    return Config(
        project=file.project,
        ledger=file.ledger,
        oidc=file.oidc,
        bootstrap=file.bootstrap,
        environments=file.environments,
        stages={stage_name: stages[stage_name] for stage_name in order},
    )


def _in_each_environment(
    table: Mapping[str, Any],
    stages: Mapping[str, AnyStage],
    known: set[str],
    also: Look,
    partial: Mapping[str, AnyStage],
) -> Iterator[Problem]:
    """What is wrong once placeholders are filled in. Settings that are wrong as they are (`known`)
    are left out.

    Of stages with settings left out for that (`partial`), only what each of the others says by
    itself.
    """
    environments = {
        name: environment
        for name, entry in tables(table, "environments").items()
        if (environment := converted(entry, Environment)) is not None
    }
    project = converted(table.get("project"), ProjectSettings)
    if project is None or not environments:
        return
    if any(naming.circles(table, stages)):
        stages = {name: msgspec.structs.replace(stage, needs=()) for name, stage in stages.items()}
    declared = tables(table, "stages")
    told = set(known)
    for name, environment in environments.items():
        here = {
            stage_name: filled(stage, project.name, name, environment, everything=True)
            for stage_name, stage in stages_of(stages, name).items()
        }
        rest = {
            stage_name: filled(stage, project.name, name, environment, everything=True)
            for stage_name, stage in stages_of(partial, name).items()
        }
        found = [
            *naming.in_environment(name, environment.values, stages, declared),
            *_of_stages(here, also),
            *clashes(here.values()),
            *(problem for problem in _of_stages(rest, also) if _is_set(declared, problem.where)),
        ]
        for problem in found:
            if problem.where not in told:
                told.add(problem.where)
                yield problem
    ledger = converted(table.get("ledger"), LedgerSettings) or LedgerSettings()
    for problem in resources.shared(project.name, ledger, environments, stages):
        if problem.where not in told:
            yield problem


def _of_stages(stages: Mapping[str, AnyStage], also: Look) -> Iterator[Problem]:
    """What the kinds find wrong with settings whose placeholders are filled in."""
    for stage in stages.values():
        texts = strings(stage.settings)
        unknown = {
            re.sub(r"\.(\d+)", r"[\1]", key) for key, text in texts if PLACEHOLDER.search(text)
        }
        for found in [*KINDS[stage.kind].problems(stage), *also(stage)]:
            if found.where not in unknown or stage.kind == "command":
                yield Problem(
                    found.id, found.message, f"stages.{stage.name}.{found.where}", found.hint
                )


def _is_set(declared: Mapping[str, Any], where: str) -> bool:
    """Whether the file has that setting: what a setting that was left out would be by default is
    not told.
    """
    stage, key = where.split(".")[1:3]
    return re.split(r"\W", key)[0] in tables(declared, stage)


def _without_wrong_keys(name: str, entry: Any, problems: Iterable[Problem]) -> AnyStage | None:
    """The stage without the keys that are wrong in themselves; None where it is none without them."""
    wrong = {
        re.split(r"[.\[]", problem.where.removeprefix(f"stages.{name}."))[0] for problem in problems
    }
    if not isinstance(entry, dict) or "kind" in wrong:
        return None
    stage, _ = _stage(name, {key: value for key, value in entry.items() if key not in wrong})
    return stage


def _stage(name: str, entry: Any) -> tuple[AnyStage | None, list[Problem]]:
    path = f"stages.{name}"
    if not isinstance(entry, dict):
        return None, [Problem("config-wrong-type", "expected a table", path)]
    problems = []
    if not NAME.fullmatch(name):
        problems.append(
            Problem("config-bad-name", "a stage's name is letters, digits, `-` and `_`", path)
        )
    if "kind" not in entry:
        problems.append(
            Problem(
                "config-missing-key",
                "'kind' is missing",
                f"{path}.kind",
                f"One of {', '.join(KINDS)}.",
            )
        )
        return None, problems
    kind = KINDS.get(entry["kind"]) if isinstance(entry["kind"], str) else None
    if kind is None:
        hint = nearest(str(entry["kind"]), KINDS, otherwise=f"One of {', '.join(KINDS)}.")
        problems.append(
            Problem(
                "config-unknown-kind", f"there is no kind {entry['kind']!r}", f"{path}.kind", hint
            )
        )
        return None, problems
    shared = set(StageTable.__struct_fields__)
    common = {key: value for key, value in entry.items() if key in shared}
    rest = {key: value for key, value in entry.items() if key not in shared}
    problems += collect(common, StageTable, path)
    problems += collect(rest, kind.Settings, path, also=shared)
    if problems:
        paths = converted(entry.get("paths"), tuple[str, ...]) or ()
        return None, [*problems, *_patterns(paths, path)]
    head = msgspec.convert(common, StageTable)
    stage = Stage(
        name,
        head.kind,
        msgspec.convert(rest, kind.Settings),
        paths=head.paths,
        needs=head.needs,
        when=head.when,
        environments=head.environments,
    )
    problems += _paths(stage, path)
    return stage, problems


def _paths(stage: AnyStage, path: str) -> Iterator[Problem]:
    yield from _patterns(stage.paths, path)
    if stage.when == "due" and not any(not p.startswith("!") for p in stage.paths):
        yield Problem(
            "config-missing-key",
            "the stage has no paths, so that it could never be due",
            f"{path}.paths",
            'Name its files, such as paths = ["dbt/**"].',
        )


def _patterns(patterns: Iterable[str], path: str) -> Iterator[Problem]:
    for number, pattern in enumerate(patterns):
        wrong = complaint(pattern)
        if wrong:
            yield Problem(
                "config-bad-pattern", f"the pattern {pattern!r} {wrong}", f"{path}.paths[{number}]"
            )
