"""The images that an image is built on: what their tags meant at the build, and mean now.

The builder says which digests it took. One that it took from its own images
it may not name; then the daemon knows the digest that the image was pulled by.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from cipipe.errors import CipipeError
from cipipe.stages.context import StageContext
from cipipe.stages.image.publishing import registry_of
from cipipe.stages.image.settings import ImageSettings

if TYPE_CHECKING:
    from cipipe.tools.docker.client import Docker
    from cipipe.tools.registry.client import Registry

_HUB = "docker.io"
_HUB_API = "registry-1.docker.io"


def full_name(reference: str) -> str:
    """`HOST/REPOSITORY:TAG` of an image as people write it: `python:3.12` is Docker Hub's."""
    first, slash, _ = reference.partition("/")
    if not slash:
        reference = f"{_HUB}/library/{reference}"
    elif "." not in first and ":" not in first and first != "localhost":
        reference = f"{_HUB}/{reference}"
    tagged = ":" in reference.rpartition("/")[2]
    return reference if tagged else f"{reference}:latest"


def digests(
    context: StageContext[ImageSettings],
    docker: "Docker",
    references: Iterable[str],
    named: Mapping[str, str],
) -> dict[str, str]:
    """The digest of each base image, by its full name, as far as it is known.

    `named` are those that the builder named.
    """
    found = {}
    for name in map(full_name, references):
        digest = named.get(name) or _pulled(context, docker, name)
        if digest is not None:
            found[name] = digest
    return found


def moved(
    context: StageContext[ImageSettings], recorded: Mapping[str, str]
) -> Iterator[tuple[str, str | CipipeError | None]]:
    """The base images whose tags mean something else now, each with the new
    digest: None where the tag is gone, and an error where nobody knows.
    """
    for name, digest in sorted(recorded.items()):
        try:
            now = current(context, name)
        except CipipeError as error:
            yield name, error
        else:
            if now != digest:
                yield name, now


def current(context: StageContext[ImageSettings], name: str) -> str | None:
    """The digest behind a tag, by its full name; None where there is no such tag."""
    repository, _, tag = name.rpartition(":")
    return _registry(context, repository).digest(tag)


def _pulled(context: StageContext[ImageSettings], docker: "Docker", name: str) -> str | None:
    """The digest that the daemon's image was pulled by; None for one that no registry has."""
    repository = name.rpartition(":")[0]
    try:
        digests = docker.described(name).digests
        pulled = [
            digest
            for place, _, digest in (entry.partition("@") for entry in digests)
            if full_name(place).rpartition(":")[0] == repository
        ]
        if pulled and current(context, name) is not None:
            return pulled[0]
    except CipipeError as error:
        context.line(f"it is not known which {name} this is built on: {error.message}")
    return None


def _registry(context: StageContext[ImageSettings], repository: str) -> "Registry":
    """A base image's repository: with a login where the stage has one, else as anybody."""
    from cipipe.tools.registry import login

    host = repository.partition("/")[0]
    own = context.stage.settings.repository
    if login.is_ecr(host) or (isinstance(own, str) and own.partition("/")[0] == host):
        return registry_of(context, repository)
    if host == _HUB:
        repository = f"{_HUB_API}/{repository.partition('/')[2]}"
    return login.anonymous(repository, ca_bundle=context.aws.endpoint.ca_bundle)
