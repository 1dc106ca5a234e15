"""The ID token of a job: how it looks, where it comes from, which variables are secret."""

import re
from collections.abc import Callable
from functools import partial

from cipipe import ci
from cipipe.ci.base import FileToken, Identity, NoToken
from cipipe.config import OidcSettings
from cipipe.interrupt import Interrupt
from cipipe.model import Environment
from cipipe.oidc import sources
from cipipe.oidc.no_token import missing_token
from cipipe.pipeline.identity.target import AwsTarget
from cipipe.pipeline.project import Project
from cipipe.tools.aws.credentials import Credentials

Mint = Callable[[], tuple[str, str]]
"""Gives an ID token and the audience that it is for."""

STRIPPED = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)
"""The variables with which AWS's tools would use other credentials than the job's."""

# Characters. A shorter value is no token, and masking it would hide
# ordinary words.
_SHORTEST_SECRET = 8
_JWT = re.compile(r"ey[\w-]+\.ey[\w-]+\.[\w-]*")


def issuer_of(project: Project, provider: str | None = None) -> Identity:
    """How tokens of a provider look: the provider's defaults, changed by `[oidc]`."""
    name = provider or project.context.provider
    settings = project.config.oidc.get(name, OidcSettings())
    usual = ci.PROVIDERS[name].IDENTITY or Identity("", audience="", token_variable="")
    return Identity(
        settings.url or usual.issuer,
        audience=settings.audience or usual.audience,
        token_variable=settings.token_variable or usual.token_variable,
    )


def token_source(project: Project) -> ci.TokenSource:
    """Where this job's ID token comes from: the file in the configuration, else the provider."""
    settings = project.config.oidc.get(project.context.provider, OidcSettings())
    if settings.token_file:
        return FileToken(str(project.repository.root / settings.token_file))
    issuer = issuer_of(project)
    return project.provider.token(
        project.env, audience=issuer.audience, token_variable=issuer.token_variable
    )


def has_token(project: Project) -> bool:
    """Whether this process has an ID token of its provider, or can ask for one."""
    return not isinstance(token_source(project), NoToken)


def minting(
    project: Project,
    environment: Environment,
    target: AwsTarget | None = None,
    interrupt: Interrupt | None = None,
) -> Mint | None:
    """A function that gets a new ID token each time it is called; None
    where there is none to get.

    A person at a shell has no token and may use credentials of their own. A
    job must have one, unless another step of it got credentials already. In
    the sandbox, both get one from its issuer. Raises IdentityError.
    """
    source = token_source(project)
    if not isinstance(source, NoToken):
        audience = issuer_of(project).audience
        waiting = interrupt or Interrupt()
        return lambda: (sources.fetch(source, project.env, waiting.waiter()) or "", audience)
    if target is not None:
        return partial(target.mint, environment)
    if project.context.provider != "local" and not has_own(project):
        raise missing_token(
            project.context,
            "this job has no ID token",
            hint=source.hint,
            where=f"oidc.{project.context.provider}",
        )
    return None


def secret_variables(project: Project) -> frozenset[str]:
    """The variables that hold a token of this job: by their names, or by their values."""
    named = project.provider.secret_variables(project.env) | {issuer_of(project).token_variable}
    values = [project.env.get(name, "") for name in named]
    secrets = [value for value in values if len(value) >= _SHORTEST_SECRET]
    # A job may copy its token into another variable, alone or inside a
    # longer text.
    copies = {
        name
        for name, value in project.env.items()
        if _JWT.fullmatch(value) or any(secret in value for secret in secrets)
    }
    return frozenset(named | copies)


def ambient(project: Project) -> Credentials | None:
    """The credentials in this process's environment; None leaves it to boto3 to find a profile."""
    env = project.env
    if "AWS_ACCESS_KEY_ID" in env and "AWS_SECRET_ACCESS_KEY" in env:
        return Credentials(
            env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN")
        )
    return None


def has_own(project: Project) -> bool:
    """Whether another step of the job, or a parent run, gave this process credentials."""
    if "AWS_ACCESS_KEY_ID" in project.env:
        return True
    return {"AWS_PROFILE", "AWS_CONFIG_FILE"} <= project.env.keys()
