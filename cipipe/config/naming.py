"""What is wrong with names: dangling ones, circles, references and placeholders that can never be
filled in.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from cipipe import ci
from cipipe.config.settings import (
    PLACEHOLDER,
    PLACEHOLDERS,
    VALUES,
    LedgerSettings,
    ProjectSettings,
    stages_of,
    upstream,
)
from cipipe.errors import Problem
from cipipe.graph import cycle
from cipipe.model import Environment
from cipipe.oidc import settings as sessions
from cipipe.parse import nearest
from cipipe.stages.settings import AnyStage, Reference, references, strings

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")

_UNEXPANDED = ("kind", "paths", "needs", "when", "environments")
"""The keys of a stage's table in which placeholders are not filled in."""


def tables(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table of that key; empty where there is none, or something else."""
    found = table.get(key)
    return found if isinstance(found, dict) else {}


def converted(value: Any, kind: type[T]) -> T | None:
    """The value as that type; None where it is absent or wrong."""
    try:
        return None if value is None else msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return None


def across(
    table: Mapping[str, Any], stages: Mapping[str, AnyStage], partial: Mapping[str, AnyStage]
) -> Iterator[Problem]:
    """What is wrong between the parts of the file, whatever the environment.

    A part that is wrong in itself was reported already; its name still counts, and what is right in
    it is checked: `partial` are the stages whose wrong settings were left out.
    """
    environments = tables(table, "environments")
    project = converted(table.get("project"), ProjectSettings)
    if project is not None and not NAME.fullmatch(project.name):
        yield Problem(
            "config-bad-name", "a project's name is letters, digits, `-` and `_`", "project.name"
        )
    if project is not None:
        yield from _dangling(
            project.default_environment, environments, "project.default_environment"
        )
    for name in tables(table, "oidc"):
        yield from _dangling(name, ci.PROVIDERS, f"oidc.{name}", "provider")
    yield from _environments(environments)
    values = {
        key
        for entry in environments.values()
        if isinstance(entry, dict)
        for key in tables(entry, "values")
    }
    ledger = converted(table.get("ledger"), LedgerSettings) or LedgerSettings()
    for key in ("bucket", "prefix"):
        yield from _placeholders(getattr(ledger, key), f"ledger.{key}", None)
    yield from _unexpanded(table)
    declared = tables(table, "stages")
    for name in declared:
        for key, known, what in (
            ("needs", declared, "stage"),
            ("environments", environments, "environment"),
        ):
            for number, other in enumerate(
                converted(tables(declared, name).get(key), tuple[str, ...]) or ()
            ):
                yield from _dangling(other, known, f"stages.{name}.{key}[{number}]", what)
    for stage in stages.values():
        yield from _settings(stage, stages, declared, values)
    for stage in partial.values():
        yield from _settings(stage, stages, declared, values, whole=False)
    yield from circles(table, stages)


def _environments(environments: Mapping[str, Any]) -> Iterator[Problem]:
    after = {}
    for name, entry in environments.items():
        if not NAME.fullmatch(name):
            message = "an environment's name is letters, digits, `-` and `_`"
            yield Problem("config-bad-name", message, f"environments.{name}")
        environment = converted(entry, Environment)
        if environment is not None:
            yield from _environment(name, environment)
        earlier = entry.get("after") if isinstance(entry, dict) else None
        if isinstance(earlier, str) and earlier:
            yield from _dangling(earlier, environments, f"environments.{name}.after")
        after[name] = (
            (environment.after,) if environment and environment.after in environments else ()
        )
    yield from _cycle(after, "after")


def circles(table: Mapping[str, Any], stages: Mapping[str, AnyStage]) -> Iterator[Problem]:
    """Stages that need each other, or are named by each other's fingerprints."""
    declared = tables(table, "stages")
    needs = {
        name: converted(tables(declared, name).get("needs"), tuple[str, ...]) or ()
        for name in declared
    }
    yield from _cycle(
        {name: tuple(n for n in wanted if n in declared) for name, wanted in needs.items()}, "needs"
    )
    tags = {
        name: tuple(r.fingerprint for _, r in references(s.settings) if r.fingerprint in stages)
        for name, s in stages.items()
    }
    yield from _cycle(tags, "fingerprint")


def in_environment(
    name: str, values: Iterable[str], stages: Mapping[str, AnyStage], declared: Iterable[str]
) -> Iterator[Problem]:
    """Names that exist, and mean nothing in this environment: values it lacks, stages that it does
    not have.
    """
    here = stages_of(stages, name)
    for stage in here.values():
        path = f"stages.{stage.name}"
        for key, text in _texts(stage):
            for found in PLACEHOLDER.findall(text):
                value = found.removeprefix(VALUES)
                if found.startswith(VALUES) and value not in values:
                    hint = f'Set {value} = "…" under [environments.{name}.values].'
                    message = f"environment {name} has no value {value!r}"
                    yield Problem("config-value-missing", message, f"{path}.{key}", hint)
        for key, reference in references(stage.settings):
            where = f"{path}.{key}"
            if reference.fingerprint in stages and reference.fingerprint not in here:
                yield Problem(
                    "config-bad-reference",
                    f"environment {name} does not have the stage {reference.fingerprint}",
                    f"{where}.fingerprint",
                    f"Limit {stage.name} to environments that have it, or let {reference.fingerprint} run in {name}.",
                )
            unlimited = _may_know_outputs(stages[stage.name], stages, declared)
            if (
                reference.output is not None
                and unlimited
                and not _may_know_outputs(stage, here, declared)
            ):
                yield Problem(
                    "config-bad-reference",
                    f"output {reference.output!r} can never be known in environment {name}, "
                    "which does not have the terraform stage",
                    where,
                    f"Limit {stage.name} to environments that have it, with `environments`.",
                )


def _settings(
    stage: AnyStage,
    stages: Mapping[str, AnyStage],
    declared: Mapping[str, Any],
    values: Iterable[str],
    *,
    whole: bool = True,
) -> Iterator[Problem]:
    for key, reference in references(stage.settings):
        if reference.output is not None and not whole:
            continue  # what it needs may be among what was left out
        yield from _reference(reference, stage, stages, declared, f"stages.{stage.name}.{key}")
    for key, text in _texts(stage):
        # A command's arguments may hold braces of their own.
        own_braces = stage.kind == "command"
        yield from _placeholders(text, f"stages.{stage.name}.{key}", values, only_values=own_braces)


def _texts(stage: AnyStage) -> Iterator[tuple[str, str]]:
    """Every text of a stage's settings in which placeholders are filled in, with its key path."""
    yield from strings(stage.settings)
    for key, reference in references(stage.settings):
        if reference.default is not None:
            yield f"{key}.default", reference.default


def _environment(name: str, environment: Environment) -> Iterator[Problem]:
    path = f"environments.{name}"
    if not re.fullmatch(r"\d{12}", environment.account_id):
        yield Problem("config-bad-account", "an AWS account id is 12 digits", f"{path}.account_id")
    if not re.fullmatch(r"[a-z]{2,}(-[a-z]+)+-\d", environment.region):
        yield Problem(
            "config-bad-region", f"{environment.region!r} is not an AWS region", f"{path}.region"
        )
    yield from sessions.problems(environment, path)
    for key, value in environment.values.items():
        if not NAME.fullmatch(key):
            message = "a value's name is letters, digits, `-` and `_`"
            yield Problem("config-bad-name", message, f"{path}.values.{key}")
        yield from _placeholders(value, f"{path}.values.{key}", None)


def _reference(
    reference: Reference,
    stage: AnyStage,
    stages: Mapping[str, AnyStage],
    declared: Iterable[str],
    where: str,
) -> Iterator[Problem]:
    named = [key for key in ("output", "fingerprint", "env") if getattr(reference, key) is not None]
    if len(named) != 1:
        message = "a reference names exactly one of `output`, `fingerprint` and `env`"
        yield Problem("config-bad-reference", message, where)
    elif reference.default is not None and named not in (["env"], ["output"]):
        yield Problem(
            "config-bad-reference",
            "only an `env` or `output` reference may have a `default`",
            where,
        )
    elif reference.fingerprint is not None:
        yield from _dangling(reference.fingerprint, declared, f"{where}.fingerprint", "stage")
    elif reference.output is not None and not _may_know_outputs(stage, stages, declared):
        yield Problem(
            "config-bad-reference",
            f"output {reference.output!r} can never be known: the stage needs no terraform stage",
            where,
            "Put the terraform stage's name into `needs`.",
        )


def _may_know_outputs(
    stage: AnyStage, stages: Mapping[str, AnyStage], declared: Iterable[str]
) -> bool:
    """Whether a stage needs a terraform stage, or one that is wrong in itself and could be one."""
    behind = [stages[name] for name in upstream(stage.name, stages)]
    broken = set(declared) - set(stages)
    return any(s.kind == "terraform" for s in behind) or any(
        broken.intersection(s.needs) for s in [stage, *behind]
    )


def _dangling(
    name: str, known: Iterable[str], where: str, what: str = "environment"
) -> Iterator[Problem]:
    names = list(known)
    if name not in names:
        hint = nearest(name, names, otherwise="There is: " + ", ".join(names))
        yield Problem("config-dangling-name", f"there is no {what} {name!r}", where, hint)


def _placeholders(
    text: str, where: str, values: Iterable[str] | None, *, only_values: bool = False
) -> Iterator[Problem]:
    """Placeholders that nothing is known by. `values`: the names of all environments' values, if
    they may be used.
    """
    for found in PLACEHOLDER.findall(text):
        known = [*PLACEHOLDERS, *(f"{VALUES}{value}" for value in sorted(values or ()))]
        if found not in known and (found.startswith(VALUES) or not only_values):
            meant = [f"{VALUES}{found}"] if f"{VALUES}{found}" in known else []
            hint = nearest(found, meant or known, otherwise="There is: " + ", ".join(known))
            hint = f"Perhaps you meant {meant[0]!r}." if meant else hint
            yield Problem(
                "config-dangling-name", f"there is no placeholder {{{found}}}", where, hint
            )


def _unexpanded(table: Mapping[str, Any]) -> Iterator[Problem]:
    """Placeholders in texts that are taken as they are."""
    plain = {
        key: item for key, item in table.items() if key not in {"ledger", "stages", "environments"}
    }
    places = [(key, item) for key, item in plain.items() if key != "oidc" or isinstance(item, dict)]
    for name, entry in tables(table, "environments").items():
        own = {
            key: item
            for key, item in tables(table["environments"], name).items()
            if key != "values"
        }
        places.append((f"environments.{name}", own if isinstance(entry, dict) else entry))
    for name in tables(table, "stages"):
        head = {
            key: item for key, item in tables(table["stages"], name).items() if key in _UNEXPANDED
        }
        places.append((f"stages.{name}", head))
    for path, item in places:
        for key, text in _raw_texts(item, path):
            used = [
                p for p in PLACEHOLDER.findall(text) if p in PLACEHOLDERS or p.startswith(VALUES)
            ]
            if used:
                yield Problem(
                    "config-placeholder-unexpanded",
                    f"{{{used[0]}}} is not filled in here",
                    key,
                    "Placeholders are filled in below [ledger] and in the settings of a stage's own kind only.",
                )


def _raw_texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _raw_texts(item, f"{path}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _raw_texts(item, f"{path}[{number}]")


def _cycle(graph: Mapping[str, tuple[str | None, ...]], key: str) -> Iterator[Problem]:
    found = cycle({name: tuple(n for n in after if n) for name, after in graph.items()})
    if found:
        table = "environments" if key == "after" else "stages"
        message = "goes round in a circle: " + " → ".join([*found, found[0]])
        yield Problem("config-cycle", message, f"{table}.{found[0]}.{key}")
