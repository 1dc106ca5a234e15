"""cipipe.toml → Config, with everything that is wrong reported in one go (DESIGN §3).

A kind parses its own settings: this module asks the registry in `stages`.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from cipipe import ci
from cipipe.errors import Problem, ProblemsError, UsageError
from cipipe.graph import cycle, ordered
from cipipe.model import Environment
from cipipe.oidc import settings as sessions
from cipipe.parse import Located, collect, nearest
from cipipe.patterns import complaint
from cipipe.stages import KINDS, clashes
from cipipe.stages.base import Reference, Stage, When, references, strings

FILE_NAME = "cipipe.toml"
PLACEHOLDERS = ("project", "environment", "account_id", "region")

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    default_environment: str


class LedgerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bucket: str = "cipipe-{account_id}-{region}"
    prefix: str = "ledger/{project}/{environment}/"


class OidcSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How tokens of one provider look. `project` is the project's path there, which `bootstrap` puts into the roles."""

    audience: str | None = None
    token_variable: str | None = None
    token_file: str | None = None
    url: str | None = None
    project: str | None = None


class Bootstrap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `cipipe bootstrap` applies, once per account: cipipe's own Terraform root, or the one that `root` names."""

    root: str | None = None


class StageTable(msgspec.Struct, frozen=True):
    """The keys that the table of every stage may have, whatever its kind."""

    kind: str
    paths: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    when: When = "due"


class Config(msgspec.Struct, frozen=True):
    """A checked configuration. `stages` stand in the order in which they run."""

    project: Project
    ledger: LedgerSettings
    oidc: dict[str, OidcSettings]
    bootstrap: Bootstrap
    environments: dict[str, Environment]
    stages: dict[str, Stage]

    def environment(self, name: str) -> Environment:
        if name not in self.environments:
            raise UsageError(
                "environment-unknown",
                f"there is no environment {name!r}",
                hint=nearest(name, self.environments, otherwise="The environments are " + ", ".join(self.environments)),
                where="environments",
            )
        return self.environments[name]

    def expanded(self, text: str, environment: str) -> str:
        """The text with `{project}`, `{environment}`, `{account_id}` and `{region}` filled in."""
        chosen = self.environment(environment)
        values = {
            "project": self.project.name,
            "environment": environment,
            "account_id": chosen.account_id,
            "region": chosen.region,
        }
        return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    project: Project
    environments: dict[str, Environment]
    stages: dict[str, Any]
    ledger: LedgerSettings = LedgerSettings()
    oidc: dict[str, OidcSettings] = {}
    bootstrap: Bootstrap = Bootstrap()


def load(text: bytes, *, name: str = FILE_NAME) -> Config:
    """Parse and check a configuration. Raises ProblemsError with every problem, each with its line and key path."""
    try:
        table = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, an endless number, a nest without end
        line = re.search(r"at line (\d+)", str(error))
        raise UsageError(
            "config-not-toml",
            f"{name} is not TOML: {error}",
            hint="toml.io/en/v1.0.0 has the syntax in full.",
            where=f"{name}:{line[1]}" if line else name,
        ) from error
    problems = list(collect(table, _File, ""))
    stages: dict[str, Stage] = {}
    for stage_name, entry in _tables(table, "stages").items():
        stage, found = _stage(stage_name, entry)
        problems += found
        if stage is not None:
            stages[stage_name] = stage
    problems += _environment_names(table)
    problems += _across(table, stages)
    if problems:
        located = Located(text.decode(errors="replace"), name)
        raise ProblemsError(
            "config-invalid",
            f"{name} has {len(problems)} problem{'s' if len(problems) != 1 else ''}",
            tuple(located.place(problem) for problem in problems),
        )
    file = msgspec.convert(table, _File)
    order = ordered(edges(stages))
    return Config(
        project=file.project,
        ledger=file.ledger,
        oidc=file.oidc,
        bootstrap=file.bootstrap,
        environments=file.environments,
        stages={stage_name: stages[stage_name] for stage_name in order},
    )


def edges(stages: Mapping[str, Stage]) -> dict[str, tuple[str, ...]]:
    """What each stage has to run after."""
    return {name: stage.needs for name, stage in stages.items()}


def _stage(name: str, entry: Any) -> tuple[Stage | None, list[Problem]]:
    path = f"stages.{name}"
    if not isinstance(entry, dict):
        return None, [Problem("config-wrong-type", "expected a table", path)]
    problems = []
    if not _NAME.fullmatch(name):
        problems.append(Problem("config-bad-name", "a stage's name is letters, digits, `-` and `_`", path))
    if "kind" not in entry:
        problems.append(
            Problem("config-missing-key", "'kind' is missing", f"{path}.kind", f"One of {', '.join(KINDS)}.")
        )
        return None, problems
    kind = KINDS.get(entry["kind"]) if isinstance(entry["kind"], str) else None
    if kind is None:
        hint = nearest(str(entry["kind"]), KINDS, otherwise=f"One of {', '.join(KINDS)}.")
        problems.append(Problem("config-unknown-kind", f"there is no kind {entry['kind']!r}", f"{path}.kind", hint))
        return None, problems
    shared = set(StageTable.__struct_fields__)
    common = {key: value for key, value in entry.items() if key in shared}
    rest = {key: value for key, value in entry.items() if key not in shared}
    problems += collect(common, StageTable, path)
    problems += collect(rest, kind.Settings, path, also=shared)
    if problems:
        return None, problems
    head = msgspec.convert(common, StageTable)
    stage = Stage(
        name, head.kind, msgspec.convert(rest, kind.Settings), paths=head.paths, needs=head.needs, when=head.when
    )
    for found in kind.problems(stage):
        problems.append(Problem(found.id, found.message, f"{path}.{found.where}", found.hint))
    problems += _paths(stage, path)
    return stage, problems


def _paths(stage: Stage, path: str) -> Iterator[Problem]:
    for number, pattern in enumerate(stage.paths):
        wrong = complaint(pattern)
        if wrong:
            yield Problem("config-bad-pattern", f"the pattern {pattern!r} {wrong}", f"{path}.paths[{number}]")
    if stage.when == "due" and not any(not p.startswith("!") for p in stage.paths):
        yield Problem(
            "config-missing-key",
            "the stage has no paths, so that it could never be due",
            f"{path}.paths",
            'Name its files, such as paths = ["dbt/**"].',
        )


def _environment_names(table: Mapping[str, Any]) -> Iterator[Problem]:
    for name in _tables(table, "environments"):
        if not _NAME.fullmatch(name):
            message = "an environment's name is letters, digits, `-` and `_`"
            yield Problem("config-bad-name", message, f"environments.{name}")


def _across(table: Mapping[str, Any], stages: Mapping[str, Stage]) -> Iterator[Problem]:
    """What is wrong between the parts: dangling names, cycles, accounts that do not fit.

    A part that is wrong in itself was reported already; its name still counts, and what is right in it is looked at.
    """
    environments = _tables(table, "environments")
    project = _converted(table.get("project"), Project)
    if project is not None and not _NAME.fullmatch(project.name):
        yield Problem("config-bad-name", "a project's name is letters, digits, `-` and `_`", "project.name")
    if project is not None:
        yield from _dangling(project.default_environment, environments, "project.default_environment")
    for name in _tables(table, "oidc"):
        yield from _dangling(name, ci.PROVIDERS, f"oidc.{name}", "provider")
    after = {}
    for name, entry in environments.items():
        environment = _converted(entry, Environment)
        if environment is not None:
            yield from _environment(name, environment, environments)
        after[name] = (environment.after,) if environment and environment.after in environments else ()
    ledger = _converted(table.get("ledger"), LedgerSettings) or LedgerSettings()
    for key in ("bucket", "prefix"):
        yield from _placeholders(getattr(ledger, key), f"ledger.{key}")
    declared = _tables(table, "stages")
    needs = {name: _converted(_tables(declared, name).get("needs"), tuple[str, ...]) or () for name in declared}
    for name in declared:
        for number, need in enumerate(needs[name]):
            yield from _dangling(need, declared, f"stages.{name}.needs[{number}]", "stage")
    for stage in stages.values():
        yield from _settings(stage, stages, declared)
    yield from clashes(stages.values())
    yield from _cycle({name: tuple(n for n in wanted if n in declared) for name, wanted in needs.items()}, "needs")
    tags = {
        name: tuple(r.fingerprint for _, r in references(s.settings) if r.fingerprint in stages)
        for name, s in stages.items()
    }
    yield from _cycle(tags, "fingerprint")
    yield from _cycle(after, "after")


def _settings(stage: Stage, stages: Mapping[str, Stage], declared: Mapping[str, Any]) -> Iterator[Problem]:
    for key, reference in references(stage.settings):
        yield from _reference(reference, stage, stages, declared, f"stages.{stage.name}.{key}")
    if stage.kind != "command":  # whose arguments may hold braces of their own
        for key, text in strings(stage.settings):
            yield from _placeholders(text, f"stages.{stage.name}.{key}")


def _tables(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table of that key; empty where there is none, or something else."""
    found = table.get(key)
    return found if isinstance(found, dict) else {}


def _converted(value: Any, kind: type[T]) -> T | None:
    """The value as that type; None where it is absent or wrong."""
    try:
        return None if value is None else msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return None


def _environment(name: str, environment: Environment, all_of_them: Iterable[str]) -> Iterator[Problem]:
    path = f"environments.{name}"
    if not re.fullmatch(r"\d{12}", environment.account_id):
        yield Problem("config-bad-account", "an AWS account id is 12 digits", f"{path}.account_id")
    if not re.fullmatch(r"[a-z]{2,}(-[a-z]+)+-\d", environment.region):
        yield Problem("config-bad-region", f"{environment.region!r} is not an AWS region", f"{path}.region")
    yield from sessions.problems(environment, path)
    if environment.after:
        yield from _dangling(environment.after, all_of_them, f"{path}.after")


def _reference(
    reference: Reference, stage: Stage, stages: Mapping[str, Stage], declared: Iterable[str], where: str
) -> Iterator[Problem]:
    named = [key for key in ("output", "fingerprint", "env") if getattr(reference, key) is not None]
    if len(named) != 1:
        message = "a reference names exactly one of `output`, `fingerprint` and `env`"
        yield Problem("config-bad-reference", message, where)
    elif reference.default is not None and named not in (["env"], ["output"]):
        yield Problem("config-bad-reference", "only an `env` or `output` reference may have a `default`", where)
    elif reference.fingerprint is not None:
        yield from _dangling(reference.fingerprint, declared, f"{where}.fingerprint", "stage")
    elif reference.output is not None and not _may_know_outputs(stage, stages, declared):
        yield Problem(
            "config-bad-reference",
            f"output {reference.output!r} can never be known: the stage needs no terraform stage",
            where,
            "Put the terraform stage's name into `needs`.",
        )


def _may_know_outputs(stage: Stage, stages: Mapping[str, Stage], declared: Iterable[str]) -> bool:
    """Whether a stage needs a terraform stage, or one that is wrong in itself and could be one."""
    behind = [stages[name] for name in upstream(stage.name, stages)]
    broken = set(declared) - set(stages)
    return any(s.kind == "terraform" for s in behind) or any(broken.intersection(s.needs) for s in [stage, *behind])


def upstream(name: str, stages: Mapping[str, Stage]) -> list[str]:
    """Every stage that this one needs, directly or through others."""
    found: list[str] = []
    waiting = list(stages[name].needs)
    while waiting:
        need = waiting.pop()
        if need in stages and need not in found:
            found.append(need)
            waiting += stages[need].needs
    return found


def _dangling(name: str, known: Iterable[str], where: str, what: str = "environment") -> Iterator[Problem]:
    names = list(known)
    if name not in names:
        hint = nearest(name, names, otherwise="There is: " + ", ".join(names))
        yield Problem("config-dangling-name", f"there is no {what} {name!r}", where, hint)


def _placeholders(text: str, where: str) -> Iterator[Problem]:
    for found in _PLACEHOLDER.findall(text):
        if found not in PLACEHOLDERS:
            hint = nearest(found, PLACEHOLDERS, otherwise="There is: " + ", ".join(PLACEHOLDERS))
            yield Problem("config-dangling-name", f"there is no placeholder {{{found}}}", where, hint)


def _cycle(graph: Mapping[str, tuple[str | None, ...]], key: str) -> Iterator[Problem]:
    found = cycle({name: tuple(n for n in after if n) for name, after in graph.items()})
    if found:
        table = "environments" if key == "after" else "stages"
        message = "goes round in a circle: " + " → ".join([*found, found[0]])
        yield Problem("config-cycle", message, f"{table}.{found[0]}.{key}")
