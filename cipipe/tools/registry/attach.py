"""Attaches documents to an image, as OCI artifacts whose subject is the image.

The index under the tag `sha256-HEX` names what is attached (the "referrers tag schema"), also where
the registry keeps its own list of referrers: copies and prunes find it by this tag everywhere.

https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidelines-for-artifact-usage
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from cipipe.errors import StageError
from cipipe.tools.registry.client import INDEXES, Manifest, Registry
from cipipe.tools.registry.copy import attached_tag

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_EMPTY = "application/vnd.oci.empty.v1+json"


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """Something to attach."""

    # Its media type.
    type: str
    body: bytes
    annotations: Mapping[str, str] = {}


class Attached(msgspec.Struct, frozen=True):
    """A document that is attached, as the index names it."""

    # Of the artifact.
    digest: str
    annotations: Mapping[str, str]


def attached(registry: Registry, digest: str, type: str) -> list[Attached]:
    """The documents of this media type that an image has. Raises StageError."""
    return [
        Attached(str(entry["digest"]), entry.get("annotations") or {})
        for entry in _entries(registry, digest)
        if entry.get("artifactType") == type
    ]


def read(registry: Registry, digest: str, found: Attached, *, most: int) -> bytes:
    """The body of a document that is attached to the image `digest`, of at
    most that many bytes.

    Raises StageError, and ValueError for one that is not as `attach`
    writes it.
    """
    artifact = registry.manifest(found.digest)
    if artifact is None:
        message = f"{found.digest} is not there any more"
        raise ValueError(message)
    content = artifact.document()
    try:
        (layer,) = content["layers"]
        subject, name, size = content["subject"]["digest"], str(layer["digest"]), layer["size"]
    except (KeyError, TypeError, ValueError) as error:
        message = f"{found.digest} is not an attached document"
        raise ValueError(message) from error
    if subject != digest:
        message = f"{found.digest} belongs to {subject}"
        raise ValueError(message)
    if not isinstance(size, int) or size > most:
        message = f"{found.digest} has {size} bytes, more than {most}"
        raise ValueError(message)
    with registry.blob(name) as pieces:
        return b"".join(_limited(pieces, most))


def attach(registry: Registry, digest: str, documents: Sequence[Attachment]) -> None:
    """Attach documents to an image. Repeating it changes nothing.

    The index is written once for all of them: where tags are immutable,
    nothing can be added to it later. Raises StageError.
    """
    entries = _entries(registry, digest)
    subject = registry.manifest(digest)
    if subject is None:
        raise StageError(
            "registry-image-missing",
            f"{registry.repository}@{digest} is not there any more",
            where=registry.name,
        )

    about = _descriptor(subject.media_type, digest, len(subject.body))
    known = {entry.get("digest") for entry in entries}
    added = [_put(registry, about, document) for document in documents]
    new = [entry for entry in added if entry["digest"] not in known]
    if not new:
        return
    index = _manifest(_INDEX, manifests=[*entries, *new])
    try:
        registry.put_manifest(attached_tag(digest), index)
    except StageError as error:
        if error.id != "registry-tag-immutable":
            raise
        raise StageError(
            error.id,
            f"{digest} has something attached already, and nothing can be added: tags of "
            f"{registry.repository} are immutable, {attached_tag(digest)} included",
            hint="Exempt tags that start with `sha256-` from immutability in the repository's "
            "settings, or deploy a commit that changes the image.",
            where=registry.name,
        ) from error


def _put(registry: Registry, subject: dict[str, Any], document: Attachment) -> dict[str, Any]:
    """Store a document; its entry in the index."""
    size = len(document.body)
    noted = {"annotations": dict(document.annotations)} if document.annotations else {}
    artifact = _manifest(
        _MANIFEST,
        artifactType=document.type,
        config=_descriptor(_EMPTY, registry.put_blob(b"{}"), 2),
        layers=[_descriptor(document.type, registry.put_blob(document.body), size)],
        subject=subject,
        **noted,
    )
    registry.put_manifest(artifact.digest, artifact)
    entry = _descriptor(_MANIFEST, artifact.digest, len(artifact.body))
    return {**entry, "artifactType": document.type, **noted}


def _limited(pieces: Iterator[bytes], most: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > most:
            message = f"the registry sent more than {most} bytes"
            raise ValueError(message)
        yield piece


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
    entries = index.document().get("manifests", [])
    well_formed = isinstance(entries, list) and all(
        isinstance(entry, dict) and "digest" in entry for entry in entries
    )
    if not well_formed:
        raise StageError(
            "registry-damaged",
            f"{registry.repository}:{tag} is not a list of what is attached to an image",
            where=registry.name,
        )
    return list(entries)


def _manifest(media_type: str, **fields: Any) -> Manifest:
    document = {"schemaVersion": 2, "mediaType": media_type, **fields}
    body = json.dumps(document, separators=(",", ":")).encode()
    return Manifest(body, media_type, f"sha256:{hashlib.sha256(body).hexdigest()}")


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}
