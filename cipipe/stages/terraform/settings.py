"""The settings of the `terraform` kind."""

from collections.abc import Iterable
from typing import ClassVar, Literal

from cipipe.errors import Problem
from cipipe.stages.paths import outside
from cipipe.stages.settings import KindSettings, Setting, Stage
from cipipe.tools.terraform.backend import NOT_KEPT, Value
from cipipe.tools.terraform.locks import DURATION

PROTECTED_TYPES = (
    "aws_db_instance",
    "aws_dynamodb_table",
    "aws_ecr_repository",
    "aws_efs_file_system",
    "aws_kms_key",
    "aws_mwaa_environment",
    "aws_rds_cluster",
    "aws_redshift_cluster",
    "aws_s3_bucket",
    "aws_secretsmanager_secret",
    "aws_vpc",
)
"""Types of resources that hold data, or that take long to rebuild."""


class TerraformSettings(KindSettings, frozen=True):
    NOT_COUNTED: ClassVar[frozenset[str]] = frozenset({"lock_timeout", "plugin_cache"})

    TYPED: ClassVar[frozenset[str]] = frozenset({"variables"})

    # The folder of the Terraform root, relative to the top of the
    # repository.
    root: str
    # Settings of Terraform's backend, and its `type`; S3 if there is none.
    backend: dict[str, Value] = {}
    workspace: str | None = None
    # Relative to `root`.
    var_files: tuple[str, ...] = ()
    variables: dict[str, Setting] = {}
    # Resources of these types are not deleted or replaced without
    # --allow-replace.
    protected_types: tuple[str, ...] = PROTECTED_TYPES
    # What runs the root: Terraform, or OpenTofu.
    binary: Literal["terraform", "tofu"] = "terraform"
    # A folder for providers that other roots and jobs use too: absolute, or
    # relative to the top of the repository.
    plugin_cache: str | None = None
    # How long to wait for a state lock that another has; `0s` not at all.
    lock_timeout: str = "5m"


def problems(stage: Stage[TerraformSettings]) -> Iterable[Problem]:
    settings = stage.settings
    yield from outside(settings.root, "root")
    for number, name in enumerate(settings.var_files):
        yield from outside(f"{settings.root}/{name}", f"var_files[{number}]")

    if not DURATION.fullmatch(settings.lock_timeout):
        yield Problem(
            id="config-invalid",
            message=f"{settings.lock_timeout!r} is no duration",
            where="lock_timeout",
            hint="Write a number and a unit, such as `30s` or `5m`.",
        )

    kind = settings.backend.get("type", "s3")
    if kind in NOT_KEPT:
        yield Problem(
            id="terraform-state-not-kept",
            message=f"a state in backend {kind!r} is lost with the job",
            where="backend.type",
            hint="Leave `type` out for S3, or name a backend that keeps the state.",
        )
    elif kind == "s3" and ("bucket" not in settings.backend or "key" not in settings.backend):
        yield Problem(
            id="config-missing-key",
            message="the S3 backend needs `bucket` and `key`",
            where="backend",
            hint='backend = { bucket = "…", key = "terraform/{project}/{environment}.tfstate" }',
        )
