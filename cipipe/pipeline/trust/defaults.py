"""Where the options of `cipipe oidc trust-policy` come from when they are left out."""

import re
from collections.abc import Mapping

import msgspec

from cipipe import ci
from cipipe.ci.base import Identity, Pins
from cipipe.config import OidcSettings
from cipipe.errors import UsageError
from cipipe.model import DeployFrom, Environment
from cipipe.oidc.examine import PROVIDER_ARN
from cipipe.oidc.request import issuer_key, provider_arn
from cipipe.pipeline.identity.tokens import issuer_of
from cipipe.pipeline.project import Project
from cipipe.pipeline.trust.options import TrustPolicyOptions, needed, refuse_hidden
from cipipe.pipeline.trust.subjects import ids_of

PROVIDERS = [name for name, provider in ci.PROVIDERS.items() if provider.IDENTITY]
"""The providers whose jobs have ID tokens."""

_ID = re.compile(r"[0-9]+")
_NO_PINS = Pins()


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What this process knows: its job's variables, and the configuration where there is one."""

    env: Mapping[str, str]
    # The provider of this process; `local` at a shell.
    own: ci.Provider
    project: Project | None = None
    # The environment that --env names.
    environment_name: str | None = None

    def provider(self, options: TrustPolicyOptions) -> str:
        """The name of the provider: the option's, the job's, or the only one of [oidc]."""
        if options.provider:
            return options.provider
        if self.own.NAME in PROVIDERS:
            return self.own.NAME
        configured = list(self.project.config.oidc) if self.project else []
        if len(configured) == 1:
            return configured[0]
        names = configured or PROVIDERS
        hint = f"Pass --provider {' or --provider '.join(names)}."
        raise needed("--provider", f"it is one of {', '.join(names)}", hint)

    def identity(self, provider: str) -> Identity:
        """How the tokens of a provider look."""
        if self.project is not None:
            return issuer_of(self.project, provider)
        return ci.PROVIDERS[provider].IDENTITY or Identity("", audience="", token_variable="")

    def settings(self, provider: str) -> OidcSettings:
        found = self.project.config.oidc.get(provider) if self.project else None
        return found or OidcSettings()

    def environment(self) -> Environment | None:
        """The environment of cipipe.toml; None where there is no configuration."""
        if self.project is None:
            return None
        return self.project.config.environment(self.project.environment_name(self.environment_name))

    def arn_and_issuer(self, options: TrustPolicyOptions, identity: Identity) -> tuple[str, str]:
        """The ARN of the OIDC provider in IAM, and its issuer without scheme."""
        if options.provider_arn is not None:
            match = PROVIDER_ARN.fullmatch(options.provider_arn)
            if match is None:
                raise UsageError(
                    "usage",
                    f"{options.provider_arn!r} is not the ARN of an OIDC provider",
                    where="--provider-arn",
                )
            return options.provider_arn, match[3]

        environment = self.environment()
        if environment is None:
            example = "arn:aws:iam::111111111111:oidc-provider/ISSUER"
            raise needed("--provider-arn", f"it looks like {example}")
        partition = environment.role_arn.split(":")[1]
        account = environment.account_id
        arn = provider_arn(identity.issuer, account_id=account, partition=partition)
        return arn, issuer_key(identity.issuer)

    def project_path(self, options: TrustPolicyOptions, provider: str) -> str:
        """The project's path: the option's, the configuration's, or the job's."""
        found = options.project or self.settings(provider).project or self._own_project(provider)
        if not found:
            raise needed(
                "--project",
                "it is the path that the provider shows, such as group/name",
                "Pass --project, or set `project` under [oidc] in cipipe.toml.",
            )
        return found

    def deploy_from(self) -> DeployFrom | None:
        """The refs that the environment is deployed from; None where it names none."""
        environment = self.environment()
        allowed = environment.deploy_from if environment is not None else None
        if allowed is None or not (allowed.branches or allowed.tags):
            return None
        return allowed

    def ids(
        self, options: TrustPolicyOptions, provider: str, issuer: str, path: str
    ) -> tuple[str, str] | None:
        """The ids of owner and project; None where they are not known."""
        pins = ci.PROVIDERS[provider].PINS
        if options.pin_ids:
            claims = {pins.owner, pins.project} if pins is not None else set()
            refuse_hidden(claims, issuer, "--pin-ids")
            return self.pinned_ids(options, provider)

        settings = self.settings(provider)
        # The configured ids are those of the configured project, and of no
        # other.
        if settings.project in {None, path}:
            configured = ids_of(settings, f"oidc.{provider}")
            if configured is not None:
                return configured
        if pins is None or not self._is_own(provider, path):
            return None
        own = (self.env.get(pins.owner_variable, ""), self.env.get(pins.project_variable, ""))
        return own if all(_ID.fullmatch(text) for text in own) else None

    def pinned_ids(self, options: TrustPolicyOptions, provider: str) -> tuple[str, str]:
        """The ids for --pin-ids: the options', the configuration's, or the job's."""
        pins = ci.PROVIDERS[provider].PINS or _NO_PINS
        settings = self.settings(provider)
        job = self.env if provider == self.own.NAME else {}
        project_id = options.project_id or settings.project_id or job.get(pins.project_variable)
        owner_id = options.owner_id or settings.owner_id or job.get(pins.owner_variable)
        for option, value in (("--project-id", project_id), ("--owner-id", owner_id)):
            if not value or not _ID.fullmatch(value):
                raise needed(option, f"a number; jobs of {provider} have it in their environment")
        return owner_id or "", project_id or ""

    def _own_project(self, provider: str) -> str | None:
        """The project of this job, if it is one of that provider."""
        if provider != self.own.NAME:
            return None
        return self.own.context(self.env).project

    def _is_own(self, provider: str, path: str) -> bool:
        """Whether this process is a job of that project."""
        own = self._own_project(provider)
        return own is not None and own.lower() == path.lower()
