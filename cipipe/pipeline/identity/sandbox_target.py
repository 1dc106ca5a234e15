"""The sandbox as the AWS target of a command."""

from collections.abc import Mapping
from typing import Protocol

from cipipe import ci
from cipipe.config import OidcSettings
from cipipe.model import DeployFrom, Environment
from cipipe.pipeline.identity.target import AwsTarget
from cipipe.pipeline.identity.tokens import issuer_of
from cipipe.pipeline.project import Project
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint


class RunningSandbox(Protocol):
    """What a target needs of a sandbox. `sandbox.client.Sandbox` meets it."""

    def endpoint(self, region: str) -> Endpoint: ...

    def admin_of(self, account_id: str) -> Credentials: ...

    def child_env(self) -> dict[str, str]: ...

    def mint(
        self,
        *,
        project: str,
        ref: str,
        ref_type: str,
        audience: str,
        flavour: str,
        environment: str | None,
    ) -> str: ...


def target_of(
    project: Project, name: str, sandbox: RunningSandbox, *, missing: Mapping[str, str]
) -> AwsTarget:
    """The target for one environment. `missing` are the tools that are not installed."""
    provider = played_provider(project)
    settings = project.config.oidc.get(provider, OidcSettings())
    audience = issuer_of(project, provider).audience

    def mint(environment: Environment) -> tuple[str, str]:
        ref_type, ref = _deployed_ref(environment.deploy_from)
        token = sandbox.mint(
            flavour=provider,
            project=settings.project or project.config.project.name,
            ref=ref,
            ref_type=ref_type,
            audience=audience,
            environment=environment.job_environment,
        )
        return token, audience

    return AwsTarget(
        endpoint=sandbox.endpoint,
        admin=sandbox.admin_of(project.config.environment(name).account_id),
        child_env=sandbox.child_env(),
        mint=mint,
        missing=missing,
    )


def played_provider(project: Project) -> str:
    """The provider that the sandbox plays: this job's, if `[oidc]` has it, else the first one."""
    own = project.context.provider
    if own in project.config.oidc:
        return own
    return next(iter(project.config.oidc), next(iter(ci.PROVIDERS)))


def _deployed_ref(allowed: DeployFrom) -> tuple[str, str]:
    """The type and name of a ref that may deploy. A `*` of a pattern is any text."""
    if allowed.branches:
        return "branch", allowed.branches[0].replace("*", "0")
    if allowed.tags:
        return "tag", allowed.tags[0].replace("*", "0")
    return "tag", "main"
