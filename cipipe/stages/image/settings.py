"""The settings of the `image` kind."""

import re
from collections.abc import Iterable

from cipipe.errors import Problem
from cipipe.model import FINGERPRINT_TAG_LENGTH
from cipipe.stages.paths import outside
from cipipe.stages.settings import KindSettings, Setting, Stage

CONTENT_TAG = rf"[0-9a-f]{{{FINGERPRINT_TAG_LENGTH}}}"
"""A tag that cipipe makes from a fingerprint."""

_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"


class ImageSettings(KindSettings, frozen=True):
    # A folder of the repository.
    context: str
    # The URL of the ECR repository, without a tag.
    repository: Setting
    # Relative to `context`.
    dockerfile: str = "Dockerfile"
    build_args: dict[str, Setting] = {}
    # A command that has to succeed in the image before it is pushed.
    smoke: tuple[str, ...] = ()
    # Tags besides the one of the content. They move.
    tags: tuple[str, ...] = ()
    platform: str | None = None
    # The network of the build.
    network: Setting | None = None
    # Seconds to wait for the Docker daemon.
    daemon_timeout: int = 60


def problems(stage: Stage[ImageSettings]) -> Iterable[Problem]:
    settings = stage.settings
    yield from outside(settings.context, "context")
    yield from outside(settings.dockerfile, "dockerfile")
    for number, tag in enumerate(settings.tags):
        if not re.fullmatch(_TAG, tag):
            yield Problem("config-bad-tag", f"{tag!r} is not a valid image tag", f"tags[{number}]")
        elif re.fullmatch(CONTENT_TAG, tag):
            yield Problem(
                "config-bad-tag",
                f"{tag!r} looks like a content tag, which cipipe makes",
                f"tags[{number}]",
            )
