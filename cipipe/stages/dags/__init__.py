"""The `dags` kind: Airflow's DAG files, with Terraform's outputs put in,
uploaded to MWAA's bucket.

`steps` has the order of a deployment, `deploy` what each step does.
`markers` patches the files, `checks` refuses bad ones, `bucket` compares
and writes, `mwaa` installs and confirms; `local` is `cipipe dags patch`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cipipe.model import Environment, Record
from cipipe.partitions import partition_of
from cipipe.results import DriftFinding
from cipipe.stages.base import Input, RequiredPath, Resource, ResourceType
from cipipe.stages.context import StageContext
from cipipe.stages.dags.bucket.clashes import clashes
from cipipe.stages.dags.bucket.manifest import OUTPUTS, owns
from cipipe.stages.dags.files import included, select
from cipipe.stages.dags.mwaa.extras import without_extras
from cipipe.stages.dags.settings import Settings, problems
from cipipe.stages.dags.steps import steps
from cipipe.stages.paths import repository_path
from cipipe.stages.settings import Stage
from cipipe.tools.git.client import Entry, Repository

__all__ = [
    "GIVES_OUTPUTS",
    "HAS_DRIFT",
    "NAME",
    "PATHS",
    "Settings",
    "clashes",
    "consumes",
    "drift",
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
GIVES_OUTPUTS = False
HAS_DRIFT = True


def resources(stage: Stage[Settings], environment: Environment) -> Iterator[Resource]:
    """The folder of the DAG files, and what MWAA installs, which a bucket has only once."""
    settings = stage.settings
    # A reference is not known yet: `bucket.sharing` compares the resolved
    # buckets.
    if not isinstance(settings.bucket, str):
        return
    bucket = f"{partition_of(environment.region)}:{settings.bucket}"
    yield Resource(
        type=ResourceType.FOLDER,
        name=f"{bucket}/{settings.prefix}",
        shown=f"s3://{settings.bucket}/{settings.prefix}",
        key="bucket",
        hint='Give each its own: bucket = "…-{environment}",'
        " or a prefix that names the environment.",
    )
    for key, name in (("requirements", "requirements.txt"), ("plugins", "plugins.zip")):
        if getattr(settings, key) is not None:
            yield Resource(
                type=ResourceType.OBJECT,
                name=f"{bucket}/{name}",
                shown=f"s3://{settings.bucket}/{name}",
                key=key,
                hint="An MWAA environment has it once: give each environment a bucket,"
                ' bucket = "…-{environment}".',
            )


def required_paths(stage: Stage[Settings]) -> Iterator[RequiredPath]:
    settings = stage.settings
    if not settings.allow_empty:
        yield RequiredPath(
            key="source", path=repository_path(settings.source), folder=True, may_vanish=True
        )
    if settings.requirements is not None:
        yield RequiredPath(key="requirements", path=repository_path(settings.requirements))
    if settings.plugins is not None:
        yield RequiredPath(key="plugins", path=repository_path(settings.plugins), folder=True)


def tools(stage: Stage[Settings]) -> tuple[str, ...]:
    return ()


def consumes(
    stage: Stage[Settings],
    entries: Iterable[Entry],
    repository: Repository,
    recorded: Mapping[str, Any],
) -> frozenset[str]:
    """The outputs that the markers in the stage's Python files name."""
    if OUTPUTS in recorded:
        return frozenset(recorded[OUTPUTS])

    # A plan of what is deployed already does not get here, and does not
    # load a parser.
    from cipipe.stages.dags.markers.patch import markers

    settings = stage.settings
    own = without_extras(entries, settings)
    selected, _ = select(own, settings.source, included(settings.include))
    modules = [entry for path, entry in selected.items() if path.endswith(".py")]
    files = repository.blobs(modules, keep=True).items()
    return frozenset(
        marker.output for path, body in files for marker in markers(body, path.decode())
    )


def inputs(
    stage: Stage[Settings],
    repository: Repository,
    tree: str,
) -> Iterable[Input]:
    """The source folder, and what MWAA installs.

    A file that `paths` leave out is not uploaded either, so it is enough if
    they name some.
    """
    settings = stage.settings
    named = [Input(path=repository_path(settings.source), used_by="source", some=True)]
    if settings.requirements is not None:
        named.append(Input(path=repository_path(settings.requirements), used_by="requirements"))
    if settings.plugins is not None:
        named.append(Input(path=repository_path(settings.plugins), used_by="plugins", some=True))
    return named


def drift(context: StageContext[Settings], records: Mapping[str, Record]) -> Iterator[DriftFinding]:
    """What the bucket, MWAA and ECS have."""
    from cipipe.stages.dags.drifted import findings

    return findings(context, records)
