"""From a job to AWS: the ID token, the role, the credentials, and what of it child processes get."""

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cipipe import ci
from cipipe.ci.base import Identity, NoToken
from cipipe.config import OidcSettings
from cipipe.errors import CipipeError, IdentityError
from cipipe.model import Environment, Mode
from cipipe.oidc import sources
from cipipe.oidc.exchange import exchange, session_name
from cipipe.pipeline.project import Project
from cipipe.redact import Redactor
from cipipe.tools.aws import Aws, AwsError, Credentials, Endpoint

SESSION_SECONDS = 3600

_SECRET = 8
_JWT = re.compile(r"ey[\w-]+\.ey[\w-]+\.[\w-]*")

_STRIPPED = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)


@dataclass(frozen=True)
class Door:
    """Where AWS is, when it is not AWS itself: the sandbox. `mint` gives an ID token and its audience.

    `admin` may read a role's trust policy and bootstrap the account. `missing` names tools that the machine lacks.
    """

    endpoint: Callable[[str], Endpoint]
    admin: Credentials
    child_env: Mapping[str, str]
    mint: Callable[[Environment], tuple[str, str]]
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Access:
    """Who this job is at AWS, in one environment. `child_env` is the whole environment for child processes."""

    aws: Aws
    child_env: Mapping[str, str]


def connect(
    project: Project, name: str, mode: Mode, *, redactor: Redactor, door: Door | None = None, read_only: bool = False
) -> Access:
    """Exchange the job's token for the environment's role; on a laptop without one, use its own credentials.

    `read_only` asks for the verify role, where the environment has one; in verify mode no other will do. Raises
    IdentityError.
    """
    environment = project.config.environment(name)
    for variable in secret_variables(project):
        redactor.register(project.env.get(variable, ""))
    endpoint = _endpoint(project, environment, door)
    role = _role(name, environment, mode, read_only=read_only)
    token, audience = _token(project, environment, door)
    if token is not None:
        credentials: Credentials | None = exchange(
            token,
            role_arn=role,
            account_id=environment.account_id,
            session_name=session_name(project.config.project.name, name, str(project.context.sequence or "local")),
            duration=SESSION_SECONDS,
            endpoint=endpoint,
            audience=audience,
            redactor=redactor,
            read_policy=lambda: _read_policy(endpoint, door, role),
            now=lambda: datetime.now(UTC),
            sleep=time.sleep,
        )
    elif mode is Mode.VERIFY:
        raise IdentityError(
            "oidc-no-token",
            "a merge or pull request is looked at with the verify role only, and this job has no ID token for it",
            hint="Give the job an ID token, or plan with --offline.",
        )
    else:
        credentials = ambient(project)
        if credentials is not None:
            redactor.register(credentials.secret_access_key)
            redactor.register(credentials.session_token or "")
    aws = Aws(endpoint, credentials, account=environment.account_id)
    check_account(aws, name, environment)
    return Access(aws, child_environment(project, environment, endpoint, credentials, door))


def can_connect(project: Project, door: Door | None) -> bool:
    """Whether there is anything to connect with; a laptop without AWS credentials and a fork's job plan offline."""
    if project.context.fork:
        return False
    if door is not None or project.context.provider != "local" or "AWS_ACCESS_KEY_ID" in project.env:
        return True
    home = Path(project.env.get("HOME", "/nonexistent"))
    files = (project.env.get("AWS_CONFIG_FILE") or home / ".aws/config", home / ".aws/credentials")
    return "AWS_PROFILE" in project.env or any(Path(file).is_file() for file in files)


def child_environment(
    project: Project,
    environment: Environment,
    endpoint: Endpoint,
    credentials: Credentials | None,
    door: Door | None,
) -> dict[str, str]:
    """The environment of child processes: this one's, without static AWS keys and tokens, with the credentials got."""
    hidden = {*(_STRIPPED if credentials else ()), *secret_variables(project)}
    kept = {key: value for key, value in project.env.items() if key not in hidden}
    if door is not None:
        kept = {
            key: value for key, value in kept.items() if not key.startswith(("AWS_ENDPOINT_URL", "AWS_CONFIG_FILE"))
        }
    scripts = str(Path(sys.executable).parent)
    kept |= {
        "PATH": os.pathsep.join([scripts, kept.get("PATH", os.defpath)]),
        "AWS_REGION": environment.region,
        "AWS_DEFAULT_REGION": environment.region,
        **(credentials.environment() if credentials else {}),
        **(door.child_env if door else {}),
    }
    if endpoint.url:
        kept |= {"AWS_ENDPOINT_URL": endpoint.url, "AWS_ENDPOINT_URL_STS": endpoint.url}
    return kept


def secret_variables(project: Project) -> frozenset[str]:
    """The variables that hold a token of this job, by their names or because a token is in their value."""
    named = project.provider.secret_variables(project.env) | {issuer_of(project).token_variable}
    values = [project.env[name] for name in named if len(project.env.get(name, "")) >= _SECRET]
    holding = {
        name
        for name, value in project.env.items()
        if _JWT.fullmatch(value) or any(secret in value for secret in values)
    }
    return frozenset(named | holding)


def _endpoint(project: Project, environment: Environment, door: Door | None) -> Endpoint:
    if door is not None:
        return door.endpoint(environment.region)
    return Endpoint(environment.region, project.env.get("AWS_ENDPOINT_URL"))


def _role(name: str, environment: Environment, mode: Mode, *, read_only: bool) -> str:
    if mode is Mode.VERIFY and environment.verify_role_arn is None:
        raise IdentityError(
            "oidc-role-missing",
            f"environment {name} has no role for merge and pull requests",
            hint="Set verify_role_arn to a read-only role; the deploy role is never given to unmerged code.",
            where=f"environments.{name}.verify_role_arn",
        )
    if (read_only or mode is Mode.VERIFY) and environment.verify_role_arn:
        return environment.verify_role_arn
    return environment.role_arn


def _token(project: Project, environment: Environment, door: Door | None) -> tuple[str | None, str]:
    """The job's ID token and the audience that it is for; without one, the sandbox mints one where there is a sandbox.

    A person at a shell has no token, and may use the credentials of their own; a job of a provider has to have one,
    unless another step of it got credentials already.
    """
    issuer = issuer_of(project)
    source = project.provider.token(project.env, audience=issuer.audience, token_variable=issuer.token_variable)
    token = sources.fetch(source, project.env)
    if token is None and door is not None:
        return door.mint(environment)
    if isinstance(source, NoToken) and project.context.provider != "local" and "AWS_ACCESS_KEY_ID" not in project.env:
        raise IdentityError("oidc-no-token", "this job has no ID token", hint=source.hint)
    return token, issuer.audience


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


def ambient(project: Project) -> Credentials | None:
    """The credentials of this process's own environment; None leaves it to boto3 to find a profile."""
    env = project.env
    if "AWS_ACCESS_KEY_ID" in env and "AWS_SECRET_ACCESS_KEY" in env:
        return Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN"))
    return None


def _read_policy(endpoint: Endpoint, door: Door | None, role: str) -> dict[str, Any] | None:
    if door is None:
        return None
    try:
        answer = Aws(endpoint, door.admin).call("iam", "get_role", RoleName=role.rpartition("/")[2])
    except CipipeError:
        return None
    policy = answer["Role"]["AssumeRolePolicyDocument"]
    return dict(policy) if isinstance(policy, Mapping) else None


def check_account(aws: Aws, name: str, environment: Environment) -> None:
    """Refuse credentials of another account than the environment's. Raises IdentityError."""
    try:
        actual = aws.account_id()
    except AwsError as error:
        raise IdentityError(
            "identity-rejected",
            f"AWS does not take the credentials: {error.text}",
            hint="They may have expired: log in again, or let the job mint a new token.",
        ) from error
    except CipipeError as error:
        raise IdentityError(
            "identity-missing",
            f"there are no AWS credentials to work with: {error.message}",
            hint="Run this in a pipeline job, log in with `aws sso login`, or use --sandbox.",
        ) from error
    if actual != environment.account_id:
        raise IdentityError(
            "identity-wrong-account",
            f"the credentials belong to account {actual}, environment {name} to {environment.account_id}",
            hint="Check AWS_PROFILE, or the role's ARN.",
            where=f"environments.{name}.account_id",
        )
