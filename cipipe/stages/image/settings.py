"""The settings of the `image` kind."""

import re
from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import msgspec

from cipipe.errors import Problem
from cipipe.model import FINGERPRINT_TAG_LENGTH
from cipipe.stages.image.dbt_settings import DbtProject, problems_of_dbt
from cipipe.stages.paths import outside
from cipipe.stages.settings import KindSettings, Setting, Stage

CONTENT_TAG = rf"[0-9a-f]{{{FINGERPRINT_TAG_LENGTH}}}"
"""A tag that cipipe makes from a fingerprint."""

_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"


class LoginVariables(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The login of a registry that is not Amazon ECR: the names of the
    environment variables that have it.
    """

    username_variable: str
    password_variable: str


SEVERITIES = ("critical", "high", "medium", "low", "informational")
"""Those of ECR's findings, worst first."""


class ScanGate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """ECR's scan of the image as a gate."""

    # Findings of this severity, or a worse one, fail the stage.
    severity: Literal["critical", "high", "medium", "low", "informational"] = "high"
    # Seconds to wait for the scan.
    timeout: int = 300
    # Names of findings that do not count, such as `CVE-2026-1234`.
    ignore: tuple[str, ...] = ()


class Keep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How far back `cipipe image prune` keeps deployments that one can go back to: at least this
    many days, and at least this many deployments.
    """

    days: int = 30
    count: int = 10


class ImageSettings(KindSettings, frozen=True):
    NOT_COUNTED: ClassVar = frozenset(
        {
            "cache",
            "cache_image",
            "dbt",
            "keep",
            "login",
            "promote",
            "scan",
            "sbom",
            "smoke_memory",
        }
    )

    # A folder of the repository.
    context: str
    # The URL of the ECR repository, without a tag.
    repository: Setting
    # For a registry that is not ECR.
    login: LoginVariables | None = None
    # Relative to `context`.
    dockerfile: str = "Dockerfile"
    build_args: dict[str, Setting] = {}
    # The build stage of the Dockerfile to build; None: the last one.
    target: str | None = None
    # Secrets of the build: the id that `RUN --mount=type=secret` names, and
    # the environment variable with the value, which does not count for the
    # fingerprint.
    secrets: dict[str, str] = {}
    # Whether the deployed image is the build's cache.
    cache: Literal["inline", "off"] = "inline"
    # An image of a registry, with its tag, that the layers of all build
    # stages are kept in. Needs buildx.
    cache_image: Setting | None = None
    # Where the environment comes after another one: copy the image that runs
    # there, or build it again, for images that depend on the environment.
    promote: Literal["copy", "build"] = "copy"
    # A command that has to succeed in the image before it is pushed.
    smoke: tuple[str, ...] = ()
    # Seconds that it may take.
    smoke_timeout: int = 300
    # MiB that it may use; None: as much as the daemon has.
    smoke_memory: Annotated[int, msgspec.Meta(ge=6)] | None = None
    # Tags besides the one of the content. They move.
    tags: tuple[str, ...] = ()
    # Whether the list of its components is attached to the image.
    sbom: bool = False
    # Fail where ECR's scan finds something severe; None: do not wait for it.
    scan: ScanGate | None = None
    # The image has a dbt project: name the models that a merge request
    # changes.
    dbt: DbtProject | None = None
    # What a prune keeps.
    keep: Keep = Keep()
    platform: str | None = None
    # The network of the build.
    network: Setting | None = None
    # Seconds to wait for the Docker daemon.
    daemon_timeout: int = 60


def copied(stage: Stage[ImageSettings]) -> bool:
    """Whether the image comes from the environment before this one."""
    return stage.after is not None and stage.settings.promote == "copy"


def problems(stage: Stage[ImageSettings]) -> Iterable[Problem]:
    settings = stage.settings
    yield from outside(settings.context, "context")
    yield from outside(settings.dockerfile, "dockerfile")
    yield from _problems_of_secrets(settings)
    if settings.dbt is not None:
        yield from problems_of_dbt(settings.dbt)
    if settings.scan is not None and settings.login is not None:
        yield Problem(
            "config-scan-needs-ecr",
            "only Amazon ECR scans images here, and `login` is for other registries",
            "scan",
        )
    if settings.keep.days < 0 or settings.keep.count < 1:
        yield Problem(
            "config-bad-keep",
            "`days` is at least 0, and `count` at least 1: what is deployed always stays",
            "keep",
        )
    if isinstance(settings.cache_image, str) and not re.fullmatch(
        rf"\S+/\S+:(?:{_TAG}|.*\{{.*)", settings.cache_image
    ):
        yield Problem(
            "config-bad-image",
            f"{settings.cache_image!r} is not of the form REGISTRY/NAME:TAG",
            "cache_image",
        )
    for number, tag in enumerate(settings.tags):
        if not re.fullmatch(_TAG, tag):
            yield Problem("config-bad-tag", f"{tag!r} is not a valid image tag", f"tags[{number}]")
        elif re.fullmatch(CONTENT_TAG, tag):
            yield Problem(
                "config-bad-tag",
                f"{tag!r} looks like a content tag, which cipipe makes",
                f"tags[{number}]",
            )


def _problems_of_secrets(settings: ImageSettings) -> Iterable[Problem]:
    for name, variable in settings.secrets.items():
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            yield Problem(
                "config-bad-secret",
                f"{name!r} is not a valid id of a secret: use letters, digits, `_`, `.` and `-`",
                "secrets",
            )
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            yield Problem(
                "config-bad-secret",
                f"{variable!r} is not the name of an environment variable; the value itself does "
                "not belong here",
                f"secrets.{name}",
            )
