"""The manifest of an image's dbt project, attached to the image, so that merge requests need not
pull the image to parse it.

An annotation says what it was parsed with; with other settings it is of no use.
"""

import gzip
import re
import zlib
from typing import TYPE_CHECKING, Any

from cipipe.stages.image.dbt_runs import Parsed, Parsing
from cipipe.stages.image.models import Manifest, parsed

if TYPE_CHECKING:
    from cipipe.tools.registry.attach import Attachment
    from cipipe.tools.registry.client import Registry

# Another format will have another name.
MEDIA_TYPE = "application/vnd.cipipe.dbt-manifest.v1+gzip"

PARSED_WITH = "io.cipipe.dbt.parsed-with"
"""The annotation with `Parsing.key`."""

# Bytes. A project of a thousand models has about 20 MB, 1 MB compressed.
_MOST_COMPRESSED = 32_000_000
_MOST = 256_000_000

_SCHEMA = re.compile(r"https://schemas\.getdbt\.com/dbt/manifest/v(\d{1,4})\.json")


def document(found: Parsed, parsing: Parsing) -> "Attachment":
    """What to attach."""
    from cipipe.tools.registry.attach import Attachment

    return Attachment(
        type=MEDIA_TYPE,
        body=gzip.compress(found.body, mtime=0),
        annotations={PARSED_WITH: parsing.key},
    )


def manifest_of(
    registry: "Registry", digest: str, parsing: Parsing, newest: Manifest
) -> Manifest | None:
    """The manifest of the image with this digest, parsed as said; None if it
    has none. `newest` is one that dbt has just written.

    Raises StageError, and ValueError for one that cannot be used.
    """
    from cipipe.tools.registry.attach import attached, read

    for entry in attached(registry, digest, MEDIA_TYPE):
        if entry.annotations.get(PARSED_WITH) == parsing.key:
            body = read(registry, digest, entry, most=_MOST_COMPRESSED)
            return _checked(parsed(_unpacked(body)), newest)
    return None


def _checked(found: Manifest | None, newest: Manifest) -> Manifest:
    if found is None:
        message = "it is not a manifest of dbt"
        raise ValueError(message)
    version, known = _version(found), _version(newest)
    if version > known:
        message = f"its schema v{version} is newer than v{known}, that of this merge request's dbt"
        raise ValueError(message)
    return found


def _version(manifest: Manifest) -> int:
    metadata: Any = manifest.get("metadata")
    schema = metadata.get("dbt_schema_version") if isinstance(metadata, dict) else None
    match = _SCHEMA.fullmatch(str(schema))
    if match is None:
        message = f"its schema is {schema!r}"
        raise ValueError(message)
    return int(match[1])


def _unpacked(body: bytes) -> bytes:
    """Raises ValueError where that is too much, or no gzip."""
    reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        found = reader.decompress(body, _MOST)
    except zlib.error as error:
        message = f"it is damaged: {error}"
        raise ValueError(message) from error
    if reader.unconsumed_tail:
        message = f"it has more than {_MOST} bytes"
        raise ValueError(message)
    if not reader.eof:
        message = "it is damaged: its end is missing"
        raise ValueError(message)
    return found
