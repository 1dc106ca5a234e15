"""The settings of the `dags` kind, and what can be wrong with them beyond their types."""

import re
from collections.abc import Iterable, Iterator

from cipipe.errors import Problem
from cipipe.patterns import complaint
from cipipe.stages.paths import outside
from cipipe.stages.settings import KindSettings, Setting, Stage

_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_VERSION = r"\d+\.\d+(\.\d+)?"


class DagsSettings(KindSettings, frozen=True):
    """A stage's table in cipipe.toml. docs/configuration.md describes each of them for users."""

    # A folder of the repository. Its files go to `prefix` in `bucket`, by
    # their paths below it.
    source: str
    bucket: Setting
    # Empty, or with a slash at the end.
    prefix: str = "dags/"
    allow_empty: bool = False

    # The version that MWAA runs, and a Python that has it, relative to the
    # repository.
    airflow_version: str | None = None
    airflow_python: str | None = None
    # Seconds for one file.
    import_timeout: int = 30
    # Files in which Airflow finds no DAG outside of MWAA, as patterns below
    # `source`.
    dynamic: tuple[str, ...] = ()

    # What MWAA installs: a file and a folder of the repository.
    requirements: str | None = None
    plugins: str | None = None
    # An empty name is no environment.
    mwaa_environment: Setting | None = None
    # Seconds to wait for MWAA to import the DAGs; 0 does not wait.
    confirm_timeout: int = 300

    # Files that are uploaded although they look like tests or caches, as
    # patterns below `source`.
    include: tuple[str, ...] = ()

    # Environment variables and Airflow Variables for the import check.
    check_env: dict[str, str] = {}
    check_variables: dict[str, str] = {}


Settings = DagsSettings


def problems(stage: Stage[Settings]) -> Iterable[Problem]:
    """What is wrong with the settings; `where` is the key below the stage's table."""
    settings = stage.settings
    yield from _source(settings)
    yield from _prefix(settings)
    yield from _bucket(settings)
    yield from _airflow(settings)
    if settings.requirements is not None:
        yield from outside(settings.requirements, "requirements")
    if settings.plugins is not None:
        yield from outside(settings.plugins, "plugins")
    yield from _patterns(settings)
    yield from _check_env(settings)


def _source(settings: Settings) -> Iterator[Problem]:
    segments = settings.source.rstrip("/").split("/")
    if settings.source not in {".", "./"} and not {"", ".", ".."}.isdisjoint(segments):
        yield Problem(
            "dags-source",
            f"{settings.source!r} is not a folder of the repository",
            "source",
            hint="Write its path from the top of the repository, such as dags.",
        )


def _prefix(settings: Settings) -> Iterator[Problem]:
    prefix = settings.prefix
    open_end = prefix != "" and not prefix.endswith("/")
    if prefix.startswith("/") or open_end or "//" in prefix:
        yield Problem(
            "dags-prefix",
            f"{prefix!r} is not a folder of a bucket",
            "prefix",
            hint="It ends with a slash and does not start with one,"
            f" such as {prefix.strip('/') or 'dags'}/.",
        )


def _bucket(settings: Settings) -> Iterator[Problem]:
    if isinstance(settings.bucket, str) and not re.fullmatch(_BUCKET, settings.bucket):
        yield Problem(
            "dags-bucket",
            f"{settings.bucket!r} is not the name of an S3 bucket",
            "bucket",
            hint="Write its name alone, without s3:// and folder,"
            ' or a reference such as { output = "dags_bucket" }.',
        )


def _airflow(settings: Settings) -> Iterator[Problem]:
    version = settings.airflow_version
    if version is not None and not re.fullmatch(_VERSION, version):
        yield Problem(
            "dags-airflow-version",
            f"{version!r} is not a version of Airflow",
            "airflow_version",
            hint='Write it as MWAA does, such as "2.10.3".',
        )
    if settings.import_timeout < 1:
        yield Problem(
            "dags-import-timeout",
            f"{settings.import_timeout} is not a time",
            "import_timeout",
            hint="Write how many seconds reading one file may take.",
        )


def _patterns(settings: Settings) -> Iterator[Problem]:
    hint = "It is a path below `source`, where * stays inside a folder and ** does not."
    for pattern in settings.dynamic:
        if (wrong := complaint(pattern)) is not None:
            yield Problem("dags-dynamic", f"the pattern {pattern!r} {wrong}", "dynamic", hint=hint)
    for pattern in settings.include:
        if (wrong := complaint(pattern)) is not None:
            yield Problem("dags-include", f"the pattern {pattern!r} {wrong}", "include", hint=hint)


def _check_env(settings: Settings) -> Iterator[Problem]:
    for name in settings.check_env:
        if not re.fullmatch(_VARIABLE, name):
            yield Problem(
                "dags-check-env",
                f"{name!r} is not the name of an environment variable",
                "check_env",
                hint="It is letters, digits and `_`, and does not start with a digit.",
            )
