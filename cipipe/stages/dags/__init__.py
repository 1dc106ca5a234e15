"""The `dags` kind: Airflow's DAG files, with Terraform's outputs put in, uploaded to the bucket
that MWAA reads.

`patch` is the heart; `files` says what is uploaded, `checks` what is refused, `deploy` what the
steps do, `local` is the command without AWS.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cipipe.errors import Problem
from cipipe.model import Environment, partition_of
from cipipe.patterns import complaint
from cipipe.stages.base import Input, RequiredPath, Resource, ResourceType
from cipipe.stages.dags.bucket.clashes import clashes
from cipipe.stages.dags.bucket.manifest import OUTPUTS, owns
from cipipe.stages.dags.deploy import steps
from cipipe.stages.dags.files import included, select
from cipipe.stages.dags.settings import Settings
from cipipe.stages.paths import outside, repository_path
from cipipe.stages.settings import Stage
from cipipe.tools.git.client import Entry, Repository

__all__ = [
    "NAME",
    "PATHS",
    "Settings",
    "clashes",
    "consumes",
    "inputs",
    "owns",
    "problems",
    "required_paths",
    "resources",
    "steps",
    "tools",
]

NAME = "dags"

PATHS = ("source", "requirements", "plugins")

_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_VERSION = r"\d+\.\d+(\.\d+)?"


def problems(stage: Stage[Settings]) -> Iterable[Problem]:
    settings: Settings = stage.settings
    segments = settings.source.rstrip("/").split("/")
    if settings.source not in {".", "./"} and not {"", ".", ".."}.isdisjoint(segments):
        yield Problem(
            "dags-source",
            f"{settings.source!r} is not a folder of the repository",
            "source",
            "Write its path from the top of the repository, such as dags.",
        )
    if (
        settings.prefix.startswith("/")
        or (settings.prefix and not settings.prefix.endswith("/"))
        or "//" in settings.prefix
    ):
        yield Problem(
            "dags-prefix",
            f"{settings.prefix!r} is not a folder of a bucket",
            "prefix",
            f"It ends with a slash and does not begin with one, such as {settings.prefix.strip('/') or 'dags'}/.",
        )
    if isinstance(settings.bucket, str) and not re.fullmatch(_BUCKET, settings.bucket):
        yield Problem(
            "dags-bucket",
            f"{settings.bucket!r} is not the name of an S3 bucket",
            "bucket",
            'Write its name alone, without s3:// and folder, or a reference such as { output = "dags_bucket" }.',
        )
    if settings.airflow_version is not None and not re.fullmatch(
        _VERSION, settings.airflow_version
    ):
        yield Problem(
            "dags-airflow-version",
            f"{settings.airflow_version!r} is not a version of Airflow",
            "airflow_version",
            'Write it as MWAA does, such as "2.10.3".',
        )
    if settings.import_timeout < 1:
        yield Problem(
            "dags-import-timeout",
            f"{settings.import_timeout} is not a time",
            "import_timeout",
            "Write how many seconds reading one file may take.",
        )
    for key, path in (("requirements", settings.requirements), ("plugins", settings.plugins)):
        if path is not None:
            yield from outside(path, key)
    yield from _patterns(settings)
    yield from _check_env(settings)


def _patterns(settings: Settings) -> Iterator[Problem]:
    hint = "It is a path below `source`, where * stays inside a folder and ** does not."
    for pattern in settings.dynamic:
        if (wrong := complaint(pattern)) is not None:
            yield Problem("dags-dynamic", f"the pattern {pattern!r} {wrong}", "dynamic", hint)
    for pattern in settings.include:
        if (wrong := complaint(pattern)) is not None:
            yield Problem("dags-include", f"the pattern {pattern!r} {wrong}", "include", hint)


def _check_env(settings: Settings) -> Iterator[Problem]:
    for name in settings.check_env:
        if not re.fullmatch(_VARIABLE, name):
            hint = "It is letters, digits and `_`, and does not begin with a digit."
            yield Problem(
                "dags-check-env",
                f"{name!r} is not the name of an environment variable",
                "check_env",
                hint,
            )


def resources(stage: Stage[Settings], environment: Environment) -> Iterator[Resource]:
    """The folder of the DAG files, and what MWAA installs, which is once in a bucket."""
    settings: Settings = stage.settings
    if not isinstance(settings.bucket, str):
        return
    bucket = f"{partition_of(environment.region)}:{settings.bucket}"
    yield Resource(
        type=ResourceType.FOLDER,
        name=f"{bucket}/{settings.prefix}",
        shown=f"s3://{settings.bucket}/{settings.prefix}",
        key="bucket",
        hint='Give each its own: bucket = "…-{environment}", or a prefix that names the environment.',
    )
    for key, name in (("requirements", "requirements.txt"), ("plugins", "plugins.zip")):
        if getattr(settings, key) is not None:
            yield Resource(
                type=ResourceType.OBJECT,
                name=f"{bucket}/{name}",
                shown=f"s3://{settings.bucket}/{name}",
                key=key,
                hint='An MWAA environment has it once: give each environment a bucket, bucket = "…-{environment}".',
            )


def required_paths(stage: Stage[Settings]) -> Iterator[RequiredPath]:
    settings: Settings = stage.settings
    if not settings.allow_empty:
        yield RequiredPath(
            key="source", path=repository_path(settings.source), folder=True, may_vanish=True
        )
    if settings.requirements is not None:
        yield RequiredPath(key="requirements", path=repository_path(settings.requirements))
    if settings.plugins is not None:
        yield RequiredPath(key="plugins", path=repository_path(settings.plugins), folder=True)


def tools(stage: Stage[Settings]) -> tuple[str, ...]:  # noqa: ARG001 - part of the Protocol
    return ()


def consumes(
    stage: Stage[Settings],
    entries: Iterable[Entry],
    repository: Repository,
    recorded: Mapping[str, Any],
) -> frozenset[str]:
    """The outputs that the markers in the stage's Python files ask for."""
    if OUTPUTS in recorded:
        return frozenset(recorded[OUTPUTS])
    from cipipe.stages.dags.markers.patch import markers
    from cipipe.stages.dags.mwaa.extras import belongs

    settings = stage.settings
    own = [
        e
        for e in entries
        if not belongs(os.fsdecode(e.path), settings.requirements, settings.plugins)
    ]
    selected, _ = select(own, settings.source, included(settings.include))
    modules = [entry for path, entry in selected.items() if path.endswith(".py")]
    files = repository.blobs(modules, keep=True).items()
    return frozenset(
        marker.output for path, body in files for marker in markers(body, path.decode())
    )


def inputs(stage: Stage[Settings], repository: Repository, tree: str) -> Iterable[Input]:  # noqa: ARG001
    """The source folder, and what MWAA installs. A file that `paths` leave out is not uploaded
    either.
    """
    settings = stage.settings
    named = [Input(path=repository_path(settings.source), used_by="source", some=True)]
    if settings.requirements is not None:
        named.append(Input(path=repository_path(settings.requirements), used_by="requirements"))
    if settings.plugins is not None:
        named.append(Input(path=repository_path(settings.plugins), used_by="plugins", some=True))
    return named
