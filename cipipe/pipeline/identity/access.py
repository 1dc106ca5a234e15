"""From a job to AWS: the ID token, the role, the credentials, and what of it child processes get."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from cipipe import shield
from cipipe.ci.base import NoToken
from cipipe.errors import CipipeError, IdentityError, RefusedError
from cipipe.model import Environment, Mode
from cipipe.oidc.renewal import Renewed
from cipipe.oidc.session import LONGEST_CHAINED, SessionRequest, policy_text, session_name
from cipipe.pipeline.identity.job_token import refuse_token
from cipipe.pipeline.identity.tokens import (
    STRIPPED,
    Mint,
    ambient,
    has_own,
    issuer_of,
    minting,
    secret_variables,
    token_source,
)
from cipipe.pipeline.project import Project
from cipipe.redact import Redactor
from cipipe.tools.aws.clients import Aws, AwsError, Credentials, Endpoint

__all__ = [
    "Access",
    "AwsTarget",
    "ambient",
    "can_connect",
    "check_account",
    "child_environment",
    "connect",
    "issuer_of",
    "lacks_token",
]


class AwsTarget(msgspec.Struct, frozen=True):
    """Where AWS is, when it is not AWS itself: the sandbox. `mint` gives an ID token and its
    audience.

    `admin` may read a role's trust policy and bootstrap the account. `missing` names tools that the
    machine lacks.
    """

    endpoint: Callable[[str], Endpoint]
    admin: Credentials
    child_env: Mapping[str, str]
    mint: Callable[[Environment], tuple[str, str]]
    missing: Mapping[str, str] = {}


class Access(msgspec.Struct, frozen=True):
    """Who this job is at AWS, in one environment. `child_env` is the whole environment for child
    processes.

    `renewed` gives the credentials of a job's token, which this process renews; None where they are
    a person's own.
    """

    aws: Aws
    child_env: Mapping[str, str]
    renewed: Renewed | None = None


def connect(
    project: Project,
    name: str,
    mode: Mode,
    *,
    redactor: Redactor,
    target: AwsTarget | None = None,
    read_only: bool = False,
) -> Access:
    """Exchange the job's token for the environment's role; on a laptop without one, use its own
    credentials.

    `read_only` asks for the verify role, where the environment has one; in verify mode no other
    will do. Children that run long are started inside `profile.served`. Raises IdentityError.
    """
    shield.undumpable()  # what the children of a run may do is theirs; what this process holds is not
    environment = project.config.environment(name)
    renewed = sessions(project, name, mode, redactor=redactor, target=target, read_only=read_only)
    endpoint = endpoint_of(project, environment, target)
    if renewed is not None:
        credentials: Credentials | None = renewed.current()
        aws = Aws(endpoint, renewed.current, account=environment.account_id)
    elif mode is Mode.VERIFY:
        raise IdentityError(
            "oidc-no-token",
            "a merge or pull request is looked at with the verify role only, and this job has no ID token for it",
            hint="Give the job an ID token, or plan with --offline.",
            where=f"environments.{name}.verify_role_arn",
        )
    else:
        credentials = ambient(project)
        if credentials is not None:
            redactor.register(credentials.secret_access_key)
            redactor.register(credentials.session_token or "")
        aws = Aws(endpoint, credentials, account=environment.account_id)
        check_account(aws, name, environment)
    return Access(
        aws, child_environment(project, environment, endpoint, credentials, target), renewed
    )


def sessions(
    project: Project,
    name: str,
    mode: Mode,
    *,
    redactor: Redactor,
    target: AwsTarget | None = None,
    read_only: bool = False,
) -> Renewed | None:
    """The sessions that the job's tokens are exchanged for, one after the other; None where there
    is no token.

    Asks nobody yet. The job of a merge request reads as the verify role and does nothing else, and
    a token that was issued to one never gets the deploy role. Raises IdentityError where there has
    to be a token or a role, and is none, and RefusedError `merge-request-read-only`.
    """
    request = project.context.mode is Mode.VERIFY and mode is not Mode.VERIFY
    if request and not read_only:
        raise merge_request_read_only(name)
    environment = project.config.environment(name)
    for variable in secret_variables(project):
        redactor.register(project.env.get(variable, ""))
    role, via = role_of(name, environment, mode, read_only=read_only)
    mint = minting(project, (lambda: target.mint(environment)) if target else None)
    if mint is None:
        return None
    if request:
        role, via = role_of(name, environment, Mode.VERIFY)
    deploys = mode is not Mode.VERIFY and role == environment.role_arn
    own = not isinstance(token_source(project), NoToken)
    session = SessionRequest(
        role,
        environment.account_id,
        session_of(project, name),
        environment.session_seconds,
        policy_text(environment.session_policy),
        environment.session_policy_arns,
    )
    endpoint = endpoint_of(project, environment, target)
    begin = _Begin(
        mint=mint,
        session=session,
        via=via,
        endpoint=endpoint,
        redactor=redactor,
        read_policy=lambda arn: _read_policy(endpoint, target, arn),
        inspect=(lambda token: refuse_token(project, name, token, read_only=read_only))
        if deploys and own
        else None,
    )
    return Renewed(begin, _now)


def session_of(project: Project, name: str) -> str:
    """The name of this job's sessions in an environment."""
    return session_name(project.config.project.name, name, str(project.context.sequence or "local"))


def merge_request_read_only(name: str) -> RefusedError:
    """The error for a merge request's job that would change an environment."""
    return RefusedError(
        "merge-request-read-only",
        f"this is the job of a merge or pull request, which changes nothing in {name}",
        hint="Run it from a branch or tag that deploy_from names, after the merge.",
        where=f"environments.{name}",
    )


class _Begin(msgspec.Struct, frozen=True, kw_only=True):
    """One session: a token that is fetched anew, exchanged, and, where there is a `via`, the role
    behind that one.

    `inspect` looks at the token that AWS accepted, before anybody gets the credentials.
    """

    mint: Mint
    session: SessionRequest
    via: str | None
    endpoint: Endpoint
    redactor: Redactor
    read_policy: Callable[[str], Mapping[str, Any] | None]
    inspect: Callable[[str], None] | None = None

    def __call__(self) -> Credentials:
        from cipipe.oidc.chain import chain  # a person's own credentials need neither
        from cipipe.oidc.exchange import exchange

        token, audience = self.mint()
        session = self.session
        if self.via:
            account = self.via.split(":")[4]
            session = SessionRequest(
                self.via, account, session.name, min(session.duration, LONGEST_CHAINED)
            )
        given = exchange(
            token,
            session,
            endpoint=self.endpoint,
            audience=audience,
            redactor=self.redactor,
            read_policy=lambda: self.read_policy(session.role_arn),
            now=_now,
            sleep=time.sleep,
        )
        if self.inspect is not None:
            self.inspect(token)
        if self.via is None:
            return given
        return chain(given, self.via, self.session, endpoint=self.endpoint, redactor=self.redactor)


def _now() -> datetime:
    return datetime.now(UTC)


def can_connect(project: Project, target: AwsTarget | None) -> bool:
    """Whether there is anything to connect with; a laptop without AWS credentials and a fork's job
    plan offline.
    """
    if project.context.fork:
        return False
    if (
        target is not None
        or project.context.provider != "local"
        or "AWS_ACCESS_KEY_ID" in project.env
    ):
        return True
    if not isinstance(token_source(project), NoToken):
        return True
    home = Path(project.env.get("HOME", "/nonexistent"))
    files = (project.env.get("AWS_CONFIG_FILE") or home / ".aws/config", home / ".aws/credentials")
    return "AWS_PROFILE" in project.env or any(Path(file).is_file() for file in files)


def lacks_token(project: Project, mode: Mode) -> str | None:
    """How to give a provider's job the ID token that it needs and does not have; None for any other
    process.

    Credentials that another step of the job got do instead, except in a merge or pull request: that
    is looked at with the verify role only.
    """
    source = token_source(project)
    if project.context.provider == "local" or not isinstance(source, NoToken):
        return None
    return None if has_own(project) and mode is not Mode.VERIFY else source.hint


def child_environment(
    project: Project,
    environment: Environment,
    endpoint: Endpoint,
    credentials: Credentials | None,
    target: AwsTarget | None,
) -> dict[str, str]:
    """The environment of child processes: this one's, without static AWS keys and tokens, with the
    credentials got.
    """
    hidden = {*(STRIPPED if credentials else ()), *secret_variables(project)}
    kept = {key: value for key, value in project.env.items() if key not in hidden}
    if target is not None:
        kept = {
            key: value
            for key, value in kept.items()
            if not key.startswith(("AWS_ENDPOINT_URL", "AWS_CONFIG_FILE"))
        }
    scripts = str(Path(sys.executable).parent)
    kept |= {
        "PATH": os.pathsep.join([scripts, kept.get("PATH", os.defpath)]),
        "AWS_REGION": environment.region,
        "AWS_DEFAULT_REGION": environment.region,
        **(credentials.environment() if credentials else {}),
        **(target.child_env if target else {}),
    }
    if endpoint.url:
        kept |= {
            "AWS_ENDPOINT_URL": endpoint.url,
            "AWS_ENDPOINT_URL_STS": endpoint.sts_url or endpoint.url,
        }
    return kept


def endpoint_of(project: Project, environment: Environment, target: AwsTarget | None) -> Endpoint:
    """Where AWS is for this environment."""
    return (
        target.endpoint(environment.region)
        if target
        else Endpoint.found_in(project.env, environment.region)
    )


def role_of(
    name: str, environment: Environment, mode: Mode, *, read_only: bool = False
) -> tuple[str, str | None]:
    """The role of a job in this mode, and the one that it is assumed from, if there is one. Raises
    IdentityError.
    """
    if mode is Mode.VERIFY and environment.verify_role_arn is None:
        raise IdentityError(
            "oidc-role-missing",
            f"environment {name} has no role for merge and pull requests",
            hint="Set verify_role_arn to a read-only role; the deploy role is never given to unmerged code.",
            where=f"environments.{name}.verify_role_arn",
        )
    if (read_only or mode is Mode.VERIFY) and environment.verify_role_arn:
        return environment.verify_role_arn, environment.verify_via_role_arn
    return environment.role_arn, environment.via_role_arn


def _read_policy(endpoint: Endpoint, target: AwsTarget | None, role: str) -> dict[str, Any] | None:
    if target is None:
        return None
    try:
        answer = Aws(endpoint, target.admin).call(
            "iam", "get_role", RoleName=role.rpartition("/")[2]
        )
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
