"""What the task definition and the DAG set, as environment variables."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# `debug` alone also wants git, which is there for packages only.
DEFAULT_STEPS = "deps, debug --connection, run, test, source freshness, docs generate --static"

# Fargate sends SIGKILL 30 s after SIGTERM. The rest is for the artifacts.
DEFAULT_GRACE = 15.0


class SettingsError(Exception):
    """A variable has a value that cannot be used. The message names the variable."""


@dataclass(frozen=True, kw_only=True)
class S3Folder:
    bucket: str
    # Empty, or with a slash at its end.
    prefix: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    # Where dbt_project.yml is.
    project: Path
    # Where dbt writes artifacts and its log.
    target: Path
    logs: Path

    # The commands of a run without arguments, each without "dbt".
    steps: tuple[tuple[str, ...], ...]

    # ARN or name of a secret in Secrets Manager.
    secret: str | None
    # Name of a connection in the Glue Data Catalog.
    connection: str | None

    # Where artifacts go; None: nowhere.
    artifacts: S3Folder | None
    # The folder of this run below `runs/`; None: made from the time.
    run_id: str | None

    # Seconds that dbt gets to end after SIGTERM.
    grace: float


def settings(env: Mapping[str, str], project: Path) -> Settings:
    """Read the variables. Raises SettingsError."""
    return Settings(
        project=project,
        target=project / env.get("DBT_TARGET_PATH", "target"),
        logs=project / env.get("DBT_LOG_PATH", "logs"),
        steps=_steps(env.get("DBT_STEPS") or DEFAULT_STEPS),
        secret=env.get("DBT_CREDENTIALS_SECRET") or None,
        connection=env.get("DBT_CREDENTIALS_CONNECTION") or None,
        artifacts=_folder(env.get("DBT_ARTIFACTS", "")),
        run_id=_run_id(env.get("DBT_RUN_ID", "")),
        grace=_grace(env.get("DBT_STOP_SECONDS", "")),
    )


def _steps(text: str) -> tuple[tuple[str, ...], ...]:
    try:
        steps = tuple(tuple(shlex.split(step)) for step in text.split(","))
    except ValueError as error:
        raise SettingsError(f"DBT_STEPS cannot be split into words: {error}") from error
    if not all(steps):
        raise SettingsError("DBT_STEPS has an empty step; separate dbt's commands by one comma")
    return steps


def _folder(text: str) -> S3Folder | None:
    if not text:
        return None
    scheme, separator, rest = text.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not separator or not bucket:
        raise SettingsError(f"DBT_ARTIFACTS is {text!r}; write it as s3://BUCKET/PREFIX/")
    prefix = prefix.strip("/")
    return S3Folder(bucket=bucket, prefix=f"{prefix}/" if prefix else "")


def _run_id(text: str) -> str | None:
    # It becomes part of a key: Airflow's run ids have colons and plus signs, which are fine.
    if "/" in text or text in {".", ".."}:
        raise SettingsError(f"DBT_RUN_ID is {text!r}; it is one folder's name, without a slash")
    return text or None


def _grace(text: str) -> float:
    if not text:
        return DEFAULT_GRACE
    try:
        grace = float(text)
    except ValueError:
        grace = -1
    if not 0 <= grace <= 120:
        raise SettingsError(f"DBT_STOP_SECONDS is {text!r}; it is a number from 0 to 120")
    return grace
