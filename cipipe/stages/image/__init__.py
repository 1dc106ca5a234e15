"""The `image` kind: one image for each content.

Its tag is the first 20 hex digits of the fingerprint, so the same content
has the same tag in every environment, and Terraform can name the image
before it exists.
"""

from collections.abc import Iterator, Mapping

from cipipe.model import Environment, Record
from cipipe.results import DriftFinding
from cipipe.stages.base import RequiredPath, Resource, ResourceType, consumes_nothing, owns_nothing
from cipipe.stages.context import StageContext
from cipipe.stages.image.inputs import inputs
from cipipe.stages.image.settings import ImageSettings, copied, problems
from cipipe.stages.image.steps import steps
from cipipe.stages.paths import repository_path
from cipipe.stages.settings import Stage

__all__ = [
    "GIVES_OUTPUTS",
    "HAS_DRIFT",
    "NAME",
    "PATHS",
    "Settings",
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

Settings = ImageSettings

NAME = "image"

PATHS = ("context", "dockerfile")
GIVES_OUTPUTS = True
HAS_DRIFT = True

consumes = consumes_nothing
owns = owns_nothing


def tools(stage: Stage[ImageSettings]) -> tuple[str, ...]:
    return ("registry",) if copied(stage) else ("docker", "registry")


def required_paths(stage: Stage[ImageSettings]) -> Iterator[RequiredPath]:
    settings = stage.settings
    context = repository_path(settings.context)
    yield RequiredPath(key="context", path=context, folder=True)
    yield RequiredPath(key="dockerfile", path=repository_path(context, settings.dockerfile))


def resources(stage: Stage[ImageSettings], environment: Environment) -> Iterator[Resource]:
    # The name of an ECR repository has the account and the region in it.
    repository = stage.settings.repository
    if isinstance(repository, str):
        yield Resource(
            type=ResourceType.REPOSITORY,
            name=repository,
            shown=repository,
            key="repository",
            hint="Give each environment its own, such as …/{project}-{environment}.",
        )


def drift(
    context: StageContext[ImageSettings],
    records: Mapping[str, Record],
) -> Iterator[DriftFinding]:
    """What the registry has behind the tags."""
    from cipipe.stages.image.drifted import findings

    return findings(context)
