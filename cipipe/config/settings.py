"""The types of a checked configuration. `Config.at` gives the view of one environment."""

import functools

import msgspec

from cipipe.config.views import Expansion, stages_of
from cipipe.errors import UsageError
from cipipe.model import Environment
from cipipe.parse import listed, nearest
from cipipe.stages.settings import AnyStage, When

FILE_NAME = "cipipe.toml"


class ProjectSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[project]`."""

    name: str

    # Where neither the command line nor the job's ref names an environment.
    default_environment: str


class LedgerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[ledger]`: where records are kept. Placeholders are filled in."""

    bucket: str = "cipipe-{account_id}-{region}"
    prefix: str = "ledger/{project}/{environment}/"


class OidcSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table `[oidc.PROVIDER]`: how tokens of one provider look."""

    # The `aud` claim; None for the provider's default.
    audience: str | None = None

    # The variable, or the file, that has the job's token; None for the
    # provider's default.
    token_variable: str | None = None
    token_file: str | None = None

    # The issuer, as an URL; None for the provider's public one.
    url: str | None = None

    # The project's path at the provider, and the numbers of the project and
    # its owner there. `bootstrap` puts them into the roles.
    project: str | None = None
    project_id: str | None = None
    owner_id: str | None = None

    # Trust subjects that contain ids, whatever the ids are.
    immutable_subjects: bool = False

    # The components of the project's subjects, where it does not have the
    # usual ones.
    subject_components: tuple[str, ...] = ()

    # The files whose jobs alone may deploy, where the provider's tokens
    # name them.
    workflows: tuple[str, ...] = ()

    # Only protected branches and tags deploy, where the provider's tokens
    # say which are.
    protected_refs: bool = True


class Bootstrap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[bootstrap]`: what `cipipe bootstrap` applies, once per account."""

    # A Terraform root of the repository; None for cipipe's own.
    root: str | None = None

    # What the roles may use beyond what is named after project and
    # environment: buckets with DAGs, and ECR repositories of the account.
    # Placeholders are filled in, as in the keys below.
    buckets: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()

    # ARNs of managed policies that the roles get as well.
    deploy_policies: tuple[str, ...] = ()
    verify_policies: tuple[str, ...] = ()

    # Actions that roles of the stack may have, such as `athena:*`.
    boundary_actions: tuple[str, ...] = ()

    # Create the KMS key for the stack's topic of alarms.
    alarm_key: bool = False


class StageTable(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that the table of every stage may have, whatever its kind."""

    kind: str
    paths: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    when: When = "due"
    # The environments that have the stage; empty: all of them.
    environments: tuple[str, ...] = ()


class Config(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A checked configuration, or the view of it that one environment has."""

    project: ProjectSettings
    ledger: LedgerSettings
    # By the provider's name.
    oidc: dict[str, OidcSettings]
    bootstrap: Bootstrap
    environments: dict[str, Environment]

    # In the order in which they run.
    stages: dict[str, AnyStage]

    # Of a view: the environment's name, and the configuration that it is a
    # view of.
    viewed: str | None = None
    whole: "Config | None" = None

    def environment(self, name: str) -> Environment:
        """The environment of that name. Raises UsageError if there is none."""
        if name not in self.environments:
            known = "The environments are " + listed(self.environments)
            raise UsageError(
                "environment-unknown",
                f"there is no environment {name!r}",
                hint=nearest(name, self.environments, otherwise=known),
                where="environments",
            )
        return self.environments[name]

    def at(self, name: str) -> "Config":
        """The configuration in one environment: its stages only, with its
        values and its paths filled in. Made once.
        """
        if self.viewed == name:
            return self
        if self.whole is not None:
            return self.whole.at(name)
        if name not in self._views:
            expansion = self._expansion(name)
            stages = {
                stage_name: expansion.for_fingerprint(stage)
                for stage_name, stage in stages_of(self.stages, name).items()
            }
            self._views[name] = msgspec.structs.replace(
                self, stages=stages, viewed=name, whole=self
            )
        return self._views[name]

    def expanded(self, text: str, environment: str) -> str:
        """The text with `{project}`, `{environment}`, `{account_id}`,
        `{region}` and `{values.NAME}` filled in.
        """
        return self._expansion(environment).text(text)

    def for_run(self, stage: AnyStage, environment: str) -> AnyStage:
        """The stage with all placeholders filled in, as they are when it runs."""
        return self._expansion(environment).for_run(stage)

    def _expansion(self, name: str) -> Expansion:
        if name not in self._expansions:
            self._expansions[name] = Expansion(self.project.name, name, self.environment(name))
        return self._expansions[name]

    # Both are derived from what is frozen, and kept beside the fields: they
    # are no part of it.

    @functools.cached_property
    def _views(self) -> dict[str, "Config"]:
        return {}

    @functools.cached_property
    def _expansions(self) -> dict[str, Expansion]:
        return {}
