"""What is wrong with references and placeholders: those that can never be filled in."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from cipipe.config.names import Names
from cipipe.config.settings import Bootstrap, LedgerSettings
from cipipe.config.views import (
    PLACEHOLDER,
    PLACEHOLDERS,
    VALUES,
    may_know_outputs,
    stages_of,
)
from cipipe.errors import Problem
from cipipe.model import Environment
from cipipe.parse import converted, listed, nearest, tables
from cipipe.stages.settings import AnyStage, Reference, references, strings

# The keys of a stage's table in which placeholders are not filled in.
_UNEXPANDED = ("kind", "paths", "needs", "when", "environments")

# The keys of `[bootstrap]` in which they are.
_EXPANDED_IN_BOOTSTRAP = ("buckets", "repositories", "deploy_policies", "verify_policies")


def problems(
    table: Mapping[str, Any], stages: Mapping[str, AnyStage], partial: Mapping[str, AnyStage]
) -> Iterator[Problem]:
    """What is wrong whatever the environment. `partial` are stages whose
    wrong settings were left out: what is right in them is checked.
    """
    ledger = converted(table.get("ledger"), LedgerSettings) or LedgerSettings()
    for key in ("bucket", "prefix"):
        yield from _placeholders(getattr(ledger, key), f"ledger.{key}")

    values: set[str] = set()
    for name, entry in tables(table, "environments").items():
        if isinstance(entry, dict):
            values.update(tables(entry, "values"))
        environment = converted(entry, Environment)
        if environment is not None:
            # A value of an environment may have placeholders, but no other
            # values, in it.
            for key, value in environment.values.items():
                yield from _placeholders(value, f"environments.{name}.values.{key}")
    yield from _in_bootstrap(table)
    yield from _unexpanded(table)

    declared = tables(table, "stages")
    knowing = may_know_outputs(stages, declared)
    names = Names("stage", declared)
    usable = [f"{VALUES}{value}" for value in sorted(values)]
    for stage in (*stages.values(), *partial.values()):
        for key, reference in references(stage.settings):
            if reference.output is not None and stage.name in partial:
                continue  # what it needs may be among what was left out
            where = f"stages.{stage.name}.{key}"
            yield from _reference(reference, names, where, may_know=stage.name in knowing)
        for key, text in _texts(stage):
            # A command's arguments may contain braces of their own.
            own_braces = stage.kind == "command"
            where = f"stages.{stage.name}.{key}"
            yield from _placeholders(text, where, usable, only_values=own_braces)


def _in_bootstrap(table: Mapping[str, Any]) -> Iterator[Problem]:
    bootstrap = converted(table.get("bootstrap"), Bootstrap) or Bootstrap()
    for key in _EXPANDED_IN_BOOTSTRAP:
        for number, text in enumerate(getattr(bootstrap, key)):
            yield from _placeholders(text, f"bootstrap.{key}[{number}]")


def in_environment(
    name: str,
    values: Collection[str],
    stages: Mapping[str, AnyStage],
    declared: Collection[str],
) -> Iterator[Problem]:
    """Names that exist, but not in this environment: values and stages that it does not have."""
    here = stages_of(stages, name)
    knowing = may_know_outputs(stages, declared)
    knowing_here = may_know_outputs(here, declared)
    for stage in here.values():
        path = f"stages.{stage.name}"
        for key, text in _texts(stage):
            for found in PLACEHOLDER.findall(text) if "{" in text else ():
                value = found.removeprefix(VALUES)
                if found.startswith(VALUES) and value not in values:
                    hint = f'Set {value} = "…" under [environments.{name}.values].'
                    message = f"environment {name} has no value {value!r}"
                    yield Problem("config-value-missing", message, f"{path}.{key}", hint=hint)

        for key, reference in references(stage.settings):
            where = f"{path}.{key}"
            other = reference.fingerprint
            if other in stages and other not in here:
                yield Problem(
                    "config-bad-reference",
                    f"environment {name} does not have the stage {other}",
                    f"{where}.fingerprint",
                    hint=f"Limit {stage.name} to environments that have it, or let {other} run in "
                    f"{name}.",
                )
            lost = stage.name in knowing and stage.name not in knowing_here
            if reference.output is not None and lost:
                yield Problem(
                    "config-bad-reference",
                    f"output {reference.output!r} can never be known in environment {name}, "
                    "which does not have the stage that gives it",
                    where,
                    hint=f"Limit {stage.name} to environments that have it, with `environments`.",
                )


def _texts(stage: AnyStage) -> Iterator[tuple[str, str]]:
    """Every text of a stage's settings in which placeholders are filled in, with its key path."""
    yield from strings(stage.settings)
    for key, reference in references(stage.settings):
        if reference.default is not None:
            yield f"{key}.default", reference.default


def _reference(
    reference: Reference, stages: Names, where: str, *, may_know: bool
) -> Iterator[Problem]:
    """What is wrong with a reference. `may_know`: its stage may get outputs from another."""
    named = [key for key in ("output", "fingerprint", "env") if getattr(reference, key) is not None]
    if len(named) != 1:
        message = "a reference names exactly one of `output`, `fingerprint` and `env`"
        yield Problem("config-bad-reference", message, where)
    elif reference.default is not None and named not in (["env"], ["output"]):
        message = "only an `env` or `output` reference may have a `default`"
        yield Problem("config-bad-reference", message, where)
    elif reference.fingerprint is not None:
        yield from stages.dangling(reference.fingerprint, f"{where}.fingerprint")
    elif reference.output is not None and not may_know:
        yield Problem(
            "config-bad-reference",
            f"output {reference.output!r} can never be known: the stage needs no stage that gives "
            "outputs",
            where,
            hint="Put the name of the terraform or image stage that gives it into `needs`.",
        )


def _placeholders(
    text: str, where: str, values: Iterable[str] = (), *, only_values: bool = False
) -> Iterator[Problem]:
    """Placeholders that stand for nothing. `values`: those of the
    environments' values that may be used.
    """
    for found in PLACEHOLDER.findall(text) if "{" in text else ():
        known = [*PLACEHOLDERS, *values]
        if found in known or (only_values and not found.startswith(VALUES)):
            continue
        hint = nearest(found, known, otherwise="There is: " + listed(known))
        if f"{VALUES}{found}" in known:
            hint = f"Perhaps you meant {f'{VALUES}{found}'!r}."
        yield Problem(
            "config-dangling-name", f"there is no placeholder {{{found}}}", where, hint=hint
        )


def _unexpanded(table: Mapping[str, Any]) -> Iterator[Problem]:
    """Placeholders in texts that are used as they are."""
    for path, item in _as_they_are(table):
        for key, text in _raw_texts(item, path):
            used = [
                p for p in PLACEHOLDER.findall(text) if p in PLACEHOLDERS or p.startswith(VALUES)
            ]
            if used:
                yield Problem(
                    "config-placeholder-unexpanded",
                    f"{{{used[0]}}} is not filled in here",
                    key,
                    hint="Placeholders are filled in below [ledger] and in the settings of a "
                    "stage's own kind only.",
                )


def _as_they_are(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Everything in which no placeholder is filled in, with its key path."""
    for key, item in table.items():
        whole = key not in {"ledger", "stages", "environments", "oidc", "bootstrap"}
        if whole or (key == "oidc" and isinstance(item, dict)):
            yield key, item
    bootstrap = tables(table, "bootstrap")
    yield "bootstrap", {k: v for k, v in bootstrap.items() if k not in _EXPANDED_IN_BOOTSTRAP}
    for name, entry in tables(table, "environments").items():
        own = entry
        if isinstance(entry, dict):
            own = {key: item for key, item in entry.items() if key != "values"}
        yield f"environments.{name}", own
    for name, entry in tables(table, "stages").items():
        head = entry if isinstance(entry, dict) else {}
        yield f"stages.{name}", {key: item for key, item in head.items() if key in _UNEXPANDED}


def _raw_texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every string in raw TOML that has a brace in it, with its key path."""
    if isinstance(value, str):
        if "{" in value:
            yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _raw_texts(item, f"{path}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _raw_texts(item, f"{path}[{number}]")
