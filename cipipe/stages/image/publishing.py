"""The image in its registry: whether it is there, push it, give it more tags."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from cipipe.errors import CipipeError, StageError, UsageError
from cipipe.model import Output
from cipipe.stages.context import StageContext
from cipipe.stages.image.daemon import daemon
from cipipe.stages.image.names import content_tag
from cipipe.stages.image.settings import ImageSettings
from cipipe.stages.settings import literal

if TYPE_CHECKING:
    from cipipe.tools.aws.clients import Aws
    from cipipe.tools.registry.client import Registry


# How registries refuse a login that is not valid any more, as Docker quotes
# them. The first is Amazon ECR's.
_EXPIRED = re.compile(
    r"token (?:is|has) expired|expiredtoken|no basic auth credentials"
    r"|unauthorized|authentication required|\b401\b",
    re.IGNORECASE,
)


class ImageData(msgspec.Struct, frozen=True, omit_defaults=True):
    """`data` in the record of an `image` stage."""

    repository: str
    tag: str
    digest: str
    # Images of deployments from before this time may have been deleted:
    # ISO 8601, UTC. None: no prune has run.
    offered_since: str | None = None
    # The digests of earlier images of the repository that layers of this
    # one were built for, oldest first: the cache in an image only describes
    # the layers that were built with it.
    layers_from: tuple[str, ...] = ()
    # The digests of the images that it is built on, by their full names, as
    # far as the build knew them.
    bases: dict[str, str] = {}


def outputs(stage: str, data: ImageData) -> dict[str, Output]:
    """What other stages may use of the image. The names have a dot: no output of Terraform has."""
    values = {"digest": data.digest, "uri": f"{data.repository}@{data.digest}"}
    return {
        f"{stage}.{name}": Output(type="string", value=value, sensitive=False)
        for name, value in values.items()
    }


def outputs_to_come(stage: str) -> dict[str, Output]:
    """The same while the image is not in its registry: a digest is only known then."""
    return {f"{stage}.{name}": Output(type="string", unknown=True) for name in ("digest", "uri")}


def registry(context: StageContext[ImageSettings]) -> "Registry":
    """The stage's repository, with a login. Raises StageError."""
    return registry_of(context, literal(context.stage.settings.repository))


def registry_of(
    context: StageContext[ImageSettings], repository: str, aws: "Aws | None" = None
) -> "Registry":
    """A repository, with a login: that of the stage's settings at the host
    of its own repository, Amazon ECR's elsewhere.

    `aws` are other credentials than the stage's. Raises StageError,
    UsageError.
    """
    from cipipe.tools.registry import login

    settings = context.stage.settings
    if settings.login is None or not _at_own_host(settings, repository):
        return login.login(aws or context.aws, repository, context.redactor)
    return login.other(
        repository,
        username=_variable(context, "username_variable", settings.login.username_variable),
        password=_variable(context, "password_variable", settings.login.password_variable),
        ca_bundle=context.aws.endpoint.ca_bundle,
        redactor=context.redactor,
    )


def _at_own_host(settings: ImageSettings, repository: str) -> bool:
    own = settings.repository
    return isinstance(own, str) and own.partition("/")[0] == repository.partition("/")[0]


def _variable(context: StageContext[ImageSettings], key: str, name: str) -> str:
    value = context.child_env.get(name)
    if value:
        return value
    raise UsageError(
        "registry-login-missing",
        f"the environment variable {name}, with the login of the registry, is not set",
        hint=f"Set {name} in the job.",
        where=f"stages.{context.stage.name}.login.{key}",
    )


def deployed_digest(context: StageContext[ImageSettings], target: "Registry") -> str | None:
    """The digest of the content's tag in the registry; None while it is not there."""
    tag = content_tag(context)
    digest = target.digest(tag)
    if digest:
        context.line(f"{tag} exists already as {digest}: nothing to build")
    return digest


def push(
    context: StageContext[ImageSettings],
    existing: str | None,
    target: "Registry | None" = None,
    *,
    bases: Mapping[str, str] = MappingProxyType({}),
) -> ImageData:
    """Push the image unless it is in the registry as `existing`.

    Logs in where there is no `target` with a login. `bases` is what the
    build returned. Raises StageError.
    """
    target = target or registry(context)
    tag = content_tag(context)
    digest = existing or _pushed(context, target)
    return ImageData(
        target.repository,
        tag,
        digest,
        offered_since(context),
        layers_from=_layers_from(context, target, digest),
        bases=dict(bases) or _recorded_bases(context, digest),
    )


def _recorded_bases(context: StageContext[ImageSettings], digest: str) -> dict[str, str]:
    """What the record has, where it is of this very image."""
    deployed = deployed_image(context)
    return deployed.bases if deployed is not None and deployed.digest == digest else {}


def _layers_from(
    context: StageContext[ImageSettings], target: "Registry", digest: str
) -> tuple[str, ...]:
    from cipipe.stages.image.layers import layer_sources

    deployed = deployed_image(context)
    if deployed is None or deployed.repository != target.repository:
        return ()
    if deployed.digest == digest:
        return deployed.layers_from
    try:
        return layer_sources(target, digest, (*deployed.layers_from, deployed.digest))
    except CipipeError as error:
        # The next build takes longer, and nothing else happens.
        context.line(f"it is not known which images have layers of this one: {error.message}")
        return ()


def deployed_image(context: StageContext[ImageSettings]) -> ImageData | None:
    """What the stage's record says; None if it names no image."""
    try:
        return msgspec.convert(context.previous.data if context.previous else {}, ImageData)
    except msgspec.ValidationError:
        # The stage was something else before, or never got that far.
        return None


def _pushed(context: StageContext[ImageSettings], target: "Registry") -> str:
    """Push the image; with a new login if the first one did not last long enough."""
    tag = content_tag(context)
    docker = daemon(context)
    try:
        return docker.push(
            target.repository, tag, username=target.username, password=target.password
        )
    except StageError as error:
        if error.id != "docker-push-refused" or not _EXPIRED.search(error.message):
            raise
        context.line("the login at the registry has expired: logging in again")

    # Layers that have arrived are not sent a second time.
    again = registry(context)
    return docker.push(again.repository, tag, username=again.username, password=again.password)


def offered_since(context: StageContext[ImageSettings]) -> str | None:
    """What the last prune of the stage decided."""
    data = context.previous.data if context.previous else {}
    found = data.get("offered_since")
    return found if isinstance(found, str) else None


def retag(context: StageContext[ImageSettings], digest: str, extra: str) -> None:
    """Point another tag at the image."""
    registry(context).retag(digest, extra)
