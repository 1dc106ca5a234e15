"""Where a stage keeps its Terraform state, as far as its settings tell."""

from collections.abc import Iterator

from cipipe.model import Environment
from cipipe.partitions import partition_of
from cipipe.stages.base import Resource, ResourceType
from cipipe.stages.paths import repository_path
from cipipe.stages.settings import Stage
from cipipe.stages.terraform.root import backend
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.tools.terraform.backend import Backend

_NAMING = {
    "address",
    "key",
    "path",
    "prefix",
    "schema_name",
    "conn_str",
    "workspaces",
    "secret_suffix",
}
"""Settings that name the state within its store, unless the job's environment does."""

_NAMED_IN_FILES = {"azurerm", "cloud", "cos", "gcs", "oss", "remote"}
"""Backends that take the name of the state from the root's files if the
settings have none, or use a fixed one.
"""

_STORE = {
    "bucket",
    "container_name",
    "hostname",
    "namespace",
    "organization",
    "storage_account_name",
}
"""Settings that name the store. All others are about how to reach it, and may be secret."""


def backend_of(settings: TerraformSettings, environment: Environment, *, sandbox: bool) -> Backend:
    """The backend that keeps a stage's state."""
    given = {key: value for key, value in settings.backend.items() if key != "type"}
    kind = str(settings.backend.get("type", "s3"))
    return backend(kind, given, environment, workspace=settings.workspace, sandbox=sandbox)


def resources(stage: Stage[TerraformSettings], environment: Environment) -> Iterator[Resource]:
    """The state; nothing where only the job's environment names it."""
    settings = stage.settings
    kind = settings.backend.get("type")
    bucket = settings.backend.get("bucket")
    key = settings.backend.get("key")
    is_default = settings.workspace in {None, "default"}
    workspace = "" if is_default else f" (workspace {settings.workspace})"

    if kind in {None, "s3"} and bucket and key:
        partition = partition_of(environment.region)
        yield Resource(
            type=ResourceType.STATE,
            name=f"{partition}:s3/{bucket}/{_object_key(settings, str(key))}",
            shown=f"s3://{bucket}/{key}{workspace}",
            key="backend",
            hint="Name the environment in it, such as key = "
            '"terraform/{project}/{environment}.tfstate".',
        )
    elif _NAMING & settings.backend.keys() or kind in _NAMED_IN_FILES:
        yield Resource(
            type=ResourceType.STATE,
            name=f"{kind}: {_store_and_name(settings)}{workspace}",
            shown=f"backend {kind}{workspace}",
            key="backend",
            hint="Name the environment in its address, path, prefix or key, "
            "or in the stage's `workspace`.",
        )


def _object_key(settings: TerraformSettings, key: str) -> str:
    """The key of the object that the S3 backend writes."""
    if settings.workspace in {None, "default"}:
        return key
    return f"{settings.backend.get('workspace_key_prefix', 'env:')}/{settings.workspace}/{key}"


def _store_and_name(settings: TerraformSettings) -> str:
    keys = sorted(settings.backend.keys() & (_NAMING | _STORE))
    given = ", ".join(f"{key} = {settings.backend[key]!r}" for key in keys)
    if not _NAMING & settings.backend.keys():
        # The `backend` block in the root's files has the rest.
        given = f"{given} in {repository_path(settings.root)}"
    return given
