"""Attaches a document to an image, as an OCI artifact whose subject is the image.

The index under the tag `sha256-HEX` names what is attached (the "referrers tag schema"), also where
the registry keeps its own list of referrers: copies and prunes find it by this tag everywhere.

https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidelines-for-artifact-usage
"""

import hashlib
import json
from typing import Any

from cipipe.errors import StageError
from cipipe.tools.registry.client import INDEXES, Manifest, Registry
from cipipe.tools.registry.copy import attached_tag

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_EMPTY = "application/vnd.oci.empty.v1+json"


def is_attached(registry: Registry, digest: str, type: str) -> bool:
    """Whether the image has a document of this media type. Raises StageError."""
    return any(entry.get("artifactType") == type for entry in _entries(registry, digest))


def attach(registry: Registry, digest: str, type: str, body: bytes) -> None:
    """Attach a document to an image. Repeating it changes nothing. Raises StageError."""
    entries = _entries(registry, digest)
    subject = registry.manifest(digest)
    if subject is None:
        raise StageError(
            "registry-image-missing",
            f"{registry.repository}@{digest} is not there any more",
            where=registry.name,
        )

    artifact = _manifest(
        _MANIFEST,
        artifactType=type,
        config=_descriptor(_EMPTY, registry.put_blob(b"{}"), 2),
        layers=[_descriptor(type, registry.put_blob(body), len(body))],
        subject=_descriptor(subject.media_type, digest, len(subject.body)),
    )
    registry.put_manifest(artifact.digest, artifact)
    entry = _descriptor(_MANIFEST, artifact.digest, len(artifact.body))
    if any(other.get("digest") == artifact.digest for other in entries):
        return
    entries.append({**entry, "artifactType": type})
    registry.put_manifest(attached_tag(digest), _manifest(_INDEX, manifests=entries))


def _entries(registry: Registry, digest: str) -> list[dict[str, Any]]:
    """What is attached. Raises StageError."""
    tag = attached_tag(digest)
    index = registry.manifest(tag)
    if index is None:
        return []
    if index.media_type.partition(";")[0].strip() not in INDEXES:
        raise StageError(
            "registry-attached-foreign",
            f"{registry.repository}:{tag} is not the list of what is attached to an image",
            hint="Delete that tag, which the OCI specification reserves for the list.",
            where=registry.name,
        )
    return list(index.document().get("manifests", []))


def _manifest(media_type: str, **fields: Any) -> Manifest:
    document = {"schemaVersion": 2, "mediaType": media_type, **fields}
    body = json.dumps(document, separators=(",", ":")).encode()
    return Manifest(body, media_type, f"sha256:{hashlib.sha256(body).hexdigest()}")


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}
