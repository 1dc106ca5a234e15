"""What a job has to identify itself with: how its provider's tokens look, where its own comes from,
what must stay secret.
"""

import re
from collections.abc import Callable

from cipipe import ci
from cipipe.ci.base import FileToken, Identity, NoToken
from cipipe.config import OidcSettings
from cipipe.errors import IdentityError
from cipipe.oidc import sources
from cipipe.pipeline.project import Project
from cipipe.tools.aws.clients import Credentials

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
"""What would make AWS's tools take other credentials than those of the job."""

_SECRET = 8
_JWT = re.compile(r"ey[\w-]+\.ey[\w-]+\.[\w-]*")


def issuer_of(project: Project, provider: str | None = None) -> Identity:
    """How tokens of a provider look: the configuration's settings over the provider's own defaults."""
    name = provider or project.context.provider
    settings = project.config.oidc.get(name, OidcSettings())
    usual = ci.PROVIDERS[name].IDENTITY or Identity("", audience="", token_variable="")
    return Identity(
        settings.url or usual.issuer,
        audience=settings.audience or usual.audience,
        token_variable=settings.token_variable or usual.token_variable,
    )


def token_source(project: Project) -> ci.TokenSource:
    """Where this job's ID token comes from: a file that the configuration names, else what the
    provider says.
    """
    issuer, settings = (
        issuer_of(project),
        project.config.oidc.get(project.context.provider, OidcSettings()),
    )
    if settings.token_file:
        return FileToken(str(project.repository.root / settings.token_file))
    return project.provider.token(
        project.env, audience=issuer.audience, token_variable=issuer.token_variable
    )


def minting(project: Project, otherwise: Mint | None = None) -> Mint | None:
    """A function that gets this job's ID token, anew each time it is called; None where there is
    none to be had.

    Without one, `otherwise` (the sandbox's) stands in. A person at a shell has no token, and may
    use credentials of their own; a job of a provider has to have one, unless another step of it got
    credentials already. Raises IdentityError.
    """
    source, audience = token_source(project), issuer_of(project).audience
    if not isinstance(source, NoToken):

        def mint() -> tuple[str, str]:
            return sources.fetch(source, project.env) or "", audience

        return mint
    if otherwise is None and project.context.provider != "local" and not has_own(project):
        raise no_token(project, source)
    return otherwise


def no_token(project: Project, source: NoToken) -> IdentityError:
    """Why a job of a provider has no token."""
    if project.context.fork:
        return IdentityError(
            "oidc-fork-cannot-mint",
            "this pipeline is for a request from a fork, which gets no ID token",
            hint="That is the provider's safeguard, and no setting of the job changes it. `cipipe plan --offline` needs no "
            "token; what needs one runs when a member of the project has taken the branch over.",
        )
    return IdentityError(
        "oidc-no-token",
        "this job has no ID token",
        hint=source.hint,
        where=f"oidc.{project.context.provider}",
    )


def secret_variables(project: Project) -> frozenset[str]:
    """The variables that hold a token of this job, by their names or because a token is in their
    value.
    """
    named = project.provider.secret_variables(project.env) | {issuer_of(project).token_variable}
    values = [project.env[name] for name in named if len(project.env.get(name, "")) >= _SECRET]
    holding = {
        name
        for name, value in project.env.items()
        if _JWT.fullmatch(value) or any(secret in value for secret in values)
    }
    return frozenset(named | holding)


def ambient(project: Project) -> Credentials | None:
    """The credentials of this process's own environment; None leaves it to boto3 to find a profile."""
    env = project.env
    if "AWS_ACCESS_KEY_ID" in env and "AWS_SECRET_ACCESS_KEY" in env:
        return Credentials(
            env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN")
        )
    return None


def has_own(project: Project) -> bool:
    """Whether somebody gave this process credentials: another step of the job, or a run that it is
    a child of.
    """
    return (
        "AWS_ACCESS_KEY_ID" in project.env
        or {"AWS_PROFILE", "AWS_CONFIG_FILE"} <= project.env.keys()
    )
