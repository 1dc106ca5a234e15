"""One table `[stages.NAME]` → Stage, and what is wrong with it. A kind parses its own settings."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from cipipe.config.names import NAME
from cipipe.config.settings import StageTable
from cipipe.errors import Problem
from cipipe.parse import collect, converted, nearest
from cipipe.patterns import complaint
from cipipe.stages import KINDS
from cipipe.stages.base import Kind
from cipipe.stages.settings import AnyStage, Stage


def parsed(name: str, entry: Any) -> tuple[AnyStage | None, list[Problem]]:
    """The stage, if its table is one, and what is wrong."""
    path = f"stages.{name}"
    if not isinstance(entry, dict):
        return None, [Problem("config-wrong-type", "expected a table", path)]
    problems = []
    if not NAME.fullmatch(name):
        message = "a stage's name is letters, digits, `-` and `_`"
        problems.append(Problem("config-bad-name", message, path))
    kind, wrong = _kind(entry, path)
    if kind is None:
        return None, [*problems, *wrong]

    shared = set(StageTable.__struct_fields__)
    common = {key: value for key, value in entry.items() if key in shared}
    rest = {key: value for key, value in entry.items() if key not in shared}
    problems += collect(common, StageTable, path)
    problems += collect(rest, kind.Settings, path, also=shared)
    if problems:
        patterns = converted(entry.get("paths"), tuple[str, ...]) or ()
        return None, [*problems, *_patterns(patterns, path)]

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
    return stage, list(_paths(stage, path))


def without_wrong_keys(name: str, entry: Any, problems: Iterable[Problem]) -> AnyStage | None:
    """The stage without the keys that are wrong in themselves; None if it is none without them."""
    wrong = {
        re.split(r"[.\[]", problem.where.removeprefix(f"stages.{name}."))[0] for problem in problems
    }
    if not isinstance(entry, dict) or "kind" in wrong:
        return None
    stage, _ = parsed(name, {key: value for key, value in entry.items() if key not in wrong})
    return stage


def _kind(entry: dict[str, Any], path: str) -> tuple[Kind[Any] | None, list[Problem]]:
    kinds = f"One of {', '.join(KINDS)}."
    if "kind" not in entry:
        return None, [
            Problem("config-missing-key", "'kind' is missing", f"{path}.kind", hint=kinds),
        ]
    name = entry["kind"]
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        hint = nearest(str(name), KINDS, otherwise=kinds)
        message = f"there is no kind {name!r}"
        return None, [Problem("config-unknown-kind", message, f"{path}.kind", hint=hint)]
    return kind, []


def _paths(stage: AnyStage, path: str) -> Iterator[Problem]:
    yield from _patterns(stage.paths, path)
    if stage.when == "due" and all(pattern.startswith("!") for pattern in stage.paths):
        yield Problem(
            "config-missing-key",
            "the stage has no paths, so it could never be due",
            f"{path}.paths",
            hint='Name its files, such as paths = ["dbt/**"].',
        )


def _patterns(patterns: Iterable[str], path: str) -> Iterator[Problem]:
    for number, pattern in enumerate(patterns):
        wrong = complaint(pattern)
        if wrong:
            message = f"the pattern {pattern!r} {wrong}"
            yield Problem("config-bad-pattern", message, f"{path}.paths[{number}]")
