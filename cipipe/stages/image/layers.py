"""Which images the layers of an image were built for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cipipe.tools.registry.client import Registry


def layer_sources(registry: "Registry", digest: str, earlier: Sequence[str]) -> tuple[str, ...]:
    """Those of the earlier images, oldest first, that each layer of an image
    is first found in. All are digests. Raises StageError.
    """
    missing = _layers(registry, digest)
    found = []
    for image in earlier:
        if not missing:
            break
        common = missing & _layers(registry, image) if image != digest else set()
        if common:
            found.append(image)
            missing -= common
    return tuple(found)


def _layers(registry: "Registry", digest: str) -> set[str]:
    """The digests of an image's layers; empty for one that is gone."""
    manifest = registry.manifest(digest)
    listed = manifest.document().get("layers", ()) if manifest is not None else ()
    return {str(layer.get("digest")) for layer in listed}
