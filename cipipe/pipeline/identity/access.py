"""What a process may do at AWS: the client, the account it belongs to, the children's variables."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cipipe.ci.base import NoToken
from cipipe.errors import CipipeError, IdentityError
from cipipe.model import Environment, Mode
from cipipe.oidc.renewal import Renewed
from cipipe.pipeline.identity.target import AwsTarget
from cipipe.pipeline.identity.tokens import (
    STRIPPED,
    has_own,
    has_token,
    secret_variables,
    token_source,
)
from cipipe.pipeline.project import Project
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError, NoCredentials


class Access(msgspec.Struct, frozen=True):
    """Who this job is at AWS, in one environment."""

    aws: Aws
    # The whole environment of child processes.
    child_env: Mapping[str, str]
    # The credentials of a job's token, which this process renews; None for
    # a person's own.
    renewed: Renewed | None = None


def can_connect(project: Project, target: AwsTarget | None) -> bool:
    """Whether this process may have credentials for AWS.

    False for a laptop without any, and for a fork's job: both plan offline.
    """
    if project.context.fork:
        return False
    if target is not None or project.context.provider != "local":
        return True
    if "AWS_ACCESS_KEY_ID" in project.env or "AWS_PROFILE" in project.env:
        return True
    if has_token(project):
        return True

    home = Path(project.env.get("HOME", "/nonexistent"))
    config = Path(project.env.get("AWS_CONFIG_FILE") or home / ".aws/config")
    return config.is_file() or (home / ".aws/credentials").is_file()


def missing_token_hint(project: Project, mode: Mode) -> str | None:
    """How to give a provider's job the ID token that it needs and does not
    have; None otherwise.

    Credentials from another step of the job are enough, except in a merge
    or pull request: that uses the verify role only.
    """
    source = token_source(project)
    if project.context.provider == "local" or not isinstance(source, NoToken):
        return None
    if has_own(project) and mode is not Mode.VERIFY:
        return None
    return source.hint


def child_environment(
    *,
    project: Project,
    environment: Environment,
    endpoint: Endpoint,
    credentials: Credentials | None,
    target: AwsTarget | None,
) -> dict[str, str]:
    """The environment of child processes: this one's with `credentials` and
    without any other.

    Neither the job's token nor static AWS keys are in it.
    """
    hidden = {*(STRIPPED if credentials else ()), *secret_variables(project)}
    kept = {key: value for key, value in project.env.items() if key not in hidden}
    if target is not None:
        # A person's own settings would send the children to AWS instead.
        elsewhere = ("AWS_ENDPOINT_URL", "AWS_CONFIG_FILE")
        kept = {key: value for key, value in kept.items() if not key.startswith(elsewhere)}

    # Children find the tools that are installed beside cipipe, in its
    # virtual environment.
    scripts = str(Path(sys.executable).parent)
    kept["PATH"] = os.pathsep.join([scripts, kept.get("PATH", os.defpath)])
    kept["AWS_REGION"] = environment.region
    kept["AWS_DEFAULT_REGION"] = environment.region
    if credentials is not None:
        kept |= credentials.environment()
    if target is not None:
        kept |= target.child_env
    if endpoint.url:
        kept["AWS_ENDPOINT_URL"] = endpoint.url
        kept["AWS_ENDPOINT_URL_STS"] = endpoint.sts_url or endpoint.url
    return kept


def check_account(aws: Aws, name: str, environment: Environment) -> None:
    """Refuse credentials of another account than the environment's. Raises IdentityError."""
    try:
        actual = aws.account_id()
    except AwsError as error:
        raise IdentityError(
            "identity-rejected",
            f"AWS rejects the credentials: {error.text}",
            hint="They may have expired: log in again, or let the job mint a new token.",
        ) from error
    except NoCredentials:
        raise
    except CipipeError as error:
        raise IdentityError(
            "identity-missing",
            f"there are no usable AWS credentials: {error.message}",
            hint="Run this in a pipeline job, log in with `aws sso login`, or use --sandbox.",
        ) from error
    if actual != environment.account_id:
        raise IdentityError(
            "identity-wrong-account",
            f"the credentials belong to account {actual}, environment {name} to "
            f"{environment.account_id}",
            hint="Check AWS_PROFILE, or the role's ARN.",
            where=f"environments.{name}.account_id",
        )
