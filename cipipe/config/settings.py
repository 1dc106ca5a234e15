"""The types of a checked configuration, and what holds of it in one environment (`Config.at`)."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from cipipe.errors import UsageError
from cipipe.model import Environment
from cipipe.parse import nearest
from cipipe.stages import KINDS
from cipipe.stages.settings import AnyStage, Reference, When, replaced

FILE_NAME = "cipipe.toml"
PLACEHOLDERS = ("project", "environment", "account_id", "region")

VALUES = "values."
"""How placeholders begin that stand for an environment's own values: `{values.NAME}`."""

PLACEHOLDER = re.compile(r"\{(values\.[A-Za-z0-9_-]*|\w*)\}")


class ProjectSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    default_environment: str


class LedgerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bucket: str = "cipipe-{account_id}-{region}"
    prefix: str = "ledger/{project}/{environment}/"


class OidcSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How tokens of one provider look. `project` is the project's path there, which `bootstrap`
    puts into the roles.

    `project_id` and `owner_id` are its numbers there. `immutable_subjects` trusts subjects with ids
    in them whatever the ids are. `subject_components` are those of the project's subjects, where it
    does not have the usual ones. `workflows` are the files whose jobs alone may deploy, where the
    provider's tokens name them. `protected_refs` says that only protected branches and tags deploy,
    where the provider's tokens tell.
    """

    audience: str | None = None
    token_variable: str | None = None
    token_file: str | None = None
    url: str | None = None
    project: str | None = None
    project_id: str | None = None
    owner_id: str | None = None
    immutable_subjects: bool = False
    subject_components: tuple[str, ...] = ()
    workflows: tuple[str, ...] = ()
    protected_refs: bool = True


class Bootstrap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `cipipe bootstrap` applies, once per account: cipipe's own Terraform root, or the one
    that `root` names.
    """

    root: str | None = None


class StageTable(msgspec.Struct, frozen=True):
    """The keys that the table of every stage may have, whatever its kind."""

    kind: str
    paths: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    when: When = "due"
    environments: tuple[str, ...] = ()


class Config(msgspec.Struct, frozen=True):
    """A checked configuration. `stages` are in the order in which they run.

    `at` gives the view of one environment, named `viewed`; `whole` is then the configuration that
    it is a view of.
    """

    project: ProjectSettings
    ledger: LedgerSettings
    oidc: dict[str, OidcSettings]
    bootstrap: Bootstrap
    environments: dict[str, Environment]
    stages: dict[str, AnyStage]
    viewed: str | None = None
    whole: "Config | None" = None

    def environment(self, name: str) -> Environment:
        if name not in self.environments:
            raise UsageError(
                "environment-unknown",
                f"there is no environment {name!r}",
                hint=nearest(
                    name,
                    self.environments,
                    otherwise="The environments are " + ", ".join(self.environments),
                ),
                where="environments",
            )
        return self.environments[name]

    def at(self, name: str) -> "Config":
        """The configuration as it holds in one environment: its stages only, its values and its
        paths filled in.

        A stage that needs one which this environment does not have needs what that one needs.
        """
        if self.viewed == name:
            return self
        whole = self.whole or self
        environment = whole.environment(name)
        stages = stages_of(whole.stages, name)
        resolved = {
            n: filled(stage, whole.project.name, name, environment, everything=False)
            for n, stage in stages.items()
        }
        return msgspec.structs.replace(whole, stages=resolved, viewed=name, whole=whole)

    def expanded(self, text: str, environment: str) -> str:
        """The text with `{project}`, `{environment}`, `{account_id}`, `{region}` and
        `{values.NAME}` filled in.
        """
        return expanded(text, _known(self.project.name, environment, self.environment(environment)))


def stages_of(stages: Mapping[str, AnyStage], environment: str) -> dict[str, AnyStage]:
    """The stages that an environment has. `needs` skips those that it does not have."""
    here = {
        name: stage
        for name, stage in stages.items()
        if environment in (stage.environments or (environment,))
    }

    def needed(stage: AnyStage) -> tuple[str, ...]:
        found: list[str] = []
        for need in stage.needs:
            if need in here:
                found.append(need)
            elif need in stages:
                found += needed(stages[need])
        return tuple(dict.fromkeys(found))

    return {
        name: msgspec.structs.replace(stage, needs=needed(stage)) for name, stage in here.items()
    }


def filled(
    stage: AnyStage, project: str, name: str, environment: Environment, *, everything: bool
) -> AnyStage:
    """The stage with an environment's values and paths filled in, which then count into its
    fingerprint.

    `everything`: all other placeholders as well, as they are when the stage runs.
    """
    known = _known(project, name, environment)
    values = {key: text for key, text in known.items() if key.startswith(VALUES)}

    def change(by: Mapping[str, str], value: Reference | str) -> Any:
        if isinstance(value, str):
            return expanded(value, by)
        default = None if value.default is None else expanded(value.default, by)
        return msgspec.structs.replace(value, default=default)

    settings = replaced(
        stage.settings, lambda value: change(known if everything else values, value)
    )
    paths = {
        key: replaced(getattr(settings, key), lambda value: change(known, value))
        for key in KINDS[stage.kind].PATHS
    }
    return msgspec.structs.replace(stage, settings=msgspec.structs.replace(settings, **paths))


def expanded(text: str, known: Mapping[str, str]) -> str:
    """The text with the placeholders filled in that are known; a value may have placeholders of its
    own.
    """
    if "{" not in text:
        return text
    for _ in range(2):
        text = PLACEHOLDER.sub(lambda found: known.get(found[1], found[0]), text)
    return text


def _known(project: str, name: str, environment: Environment) -> dict[str, str]:
    """What each placeholder stands for in one environment."""
    return {
        "project": project,
        "environment": name,
        "account_id": environment.account_id,
        "region": environment.region,
        **{f"{VALUES}{key}": value for key, value in environment.values.items()},
    }


def upstream(name: str, stages: Mapping[str, AnyStage]) -> list[str]:
    """Every stage that this one needs, directly or through others."""
    found: list[str] = []
    waiting = list(stages[name].needs)
    while waiting:
        need = waiting.pop()
        if need in stages and need not in found:
            found.append(need)
            waiting += stages[need].needs
    return found
