"""What is wrong with names: badly formed ones, those that name nothing, and
cycles.

A part of the file that is wrong in itself is reported elsewhere; its name
still counts here.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cipipe import ci
from cipipe.config.settings import ProjectSettings
from cipipe.errors import Problem
from cipipe.graph import cycle
from cipipe.model import Environment, Review
from cipipe.oidc import settings as sessions
from cipipe.parse import converted, listed, nearest, tables
from cipipe.stages.settings import AnyStage, references

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")

# A wildcard would be one in the trust policies too.
_JOB_ENVIRONMENT = re.compile(r"(?!\s)[^*?\x00-\x1f\x7f]{1,255}(?<!\s)")

# For how many names a similar one is looked for: that takes milliseconds
# where a table has many.
_SUGGESTIONS = 20


class Names:
    """The names that a table has, for problems of others that it does not have."""

    def __init__(self, what: str, names: Collection[str]) -> None:
        self._what = what
        self._names = names
        self._hints: dict[str, str | None] = {}

    def dangling(self, name: str, where: str) -> Iterator[Problem]:
        """The problem of a name that is not among them."""
        if name not in self._names:
            message = f"there is no {self._what} {name!r}"
            yield Problem("config-dangling-name", message, where, hint=self._hint(name))

    def _hint(self, name: str) -> str | None:
        if name in self._hints:
            return self._hints[name]
        hint: str | None = "There is: " + listed(self._names)
        if len(self._hints) < _SUGGESTIONS:
            hint = nearest(name, self._names, otherwise=hint)
        self._hints[name] = hint
        return hint


def problems(table: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with names, whatever the environment; `cycles` apart."""
    environments = tables(table, "environments")
    environment_names = Names("environment", environments)
    project = converted(table.get("project"), ProjectSettings)
    if project is not None:
        yield from _well_formed("a project's", project.name, "project.name")
        yield from environment_names.dangling(
            project.default_environment, "project.default_environment"
        )

    providers = Names("provider", ci.PROVIDERS)
    for name in tables(table, "oidc"):
        yield from providers.dangling(name, f"oidc.{name}")

    yield from _environments(environments, environment_names)

    declared = tables(table, "stages")
    known = {"needs": Names("stage", declared), "environments": environment_names}
    for stage in declared:
        for key, names in known.items():
            for number, other in enumerate(_strings(tables(declared, stage).get(key))):
                yield from names.dangling(other, f"stages.{stage}.{key}[{number}]")


def cycles(table: Mapping[str, Any], stages: Mapping[str, AnyStage]) -> Iterator[Problem]:
    """Stages that need each other, or use each other's fingerprints."""
    declared = tables(table, "stages")
    needs = {
        name: tuple(n for n in _strings(tables(declared, name).get("needs")) if n in declared)
        for name in declared
    }
    yield from _cycle(needs, "stages", "needs")
    tags = {
        name: tuple(r.fingerprint for _, r in references(s.settings) if r.fingerprint in stages)
        for name, s in stages.items()
    }
    yield from _cycle(tags, "stages", "fingerprint")


def _environments(environments: Mapping[str, Any], names: Names) -> Iterator[Problem]:
    after: dict[str, tuple[str | None, ...]] = {}
    for name, entry in environments.items():
        yield from _well_formed("an environment's", name, f"environments.{name}")
        environment = converted(entry, Environment)
        if environment is not None:
            yield from _environment(name, environment)
        earlier = entry.get("after") if isinstance(entry, dict) else None
        if isinstance(earlier, str) and earlier:
            yield from names.dangling(earlier, f"environments.{name}.after")
        in_order = environment is not None and environment.after in environments
        after[name] = (environment.after,) if environment is not None and in_order else ()
    yield from _cycle(after, "environments", "after")


def _environment(name: str, environment: Environment) -> Iterator[Problem]:
    path = f"environments.{name}"
    if not re.fullmatch(r"\d{12}", environment.account_id):
        yield Problem("config-bad-account", "an AWS account id is 12 digits", f"{path}.account_id")
    if not re.fullmatch(r"[a-z]{2,}(-[a-z]+)+-\d", environment.region):
        message = f"{environment.region!r} is not an AWS region"
        yield Problem("config-bad-region", message, f"{path}.region")
    named = environment.job_environment
    if named is not None and not _JOB_ENVIRONMENT.fullmatch(named):
        message = "an environment's name at the provider is not empty and has no `*` and `?`"
        yield Problem("config-bad-name", message, f"{path}.job_environment")
    if environment.review is not Review.OFF and environment.verify_role_arn is None:
        yield Problem(
            "config-review-without-role",
            "without a verify role no merge request can record what it shows",
            f"{path}.review",
            hint="Add verify_role_arn, and run `cipipe bootstrap`.",
        )
    yield from sessions.problems(environment, path)
    for key in environment.values:
        yield from _well_formed("a value's", key, f"{path}.values.{key}")


def _well_formed(whose: str, name: str, where: str) -> Iterator[Problem]:
    if not NAME.fullmatch(name):
        message = f"{whose} name is letters, digits, `-` and `_`"
        yield Problem("config-bad-name", message, where)


def _strings(value: Any) -> tuple[str, ...]:
    """A list of strings, as it is in the file; empty for anything else."""
    return converted(value, tuple[str, ...]) or ()


def _cycle(graph: Mapping[str, tuple[str | None, ...]], table: str, key: str) -> Iterator[Problem]:
    found = cycle({name: tuple(n for n in needs if n) for name, needs in graph.items()})
    if found:
        message = "is a cycle: " + " → ".join([*found, found[0]])
        yield Problem("config-cycle", message, f"{table}.{found[0]}.{key}")
