"""Fingerprints: sha256 over a stage's kind, settings and files.

The same content has the same fingerprint in every environment: settings
count before `{environment}` and its like are filled in, and
`{ output = … }` counts by its name only. What counts of the files comes
from `contents`.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from cipipe.model import Output

# Part of every hash: a change of what is hashed, or how, needs another
# version.
VERSION = b"cipipe fingerprint 1"


def digest(kind: str, settings: Any, content: Iterable[bytes]) -> str:
    """The fingerprint, 64 hex digits, of a stage and its content, as
    `Contents` gives it.

    `settings` is anything JSON can represent; the order of its keys does
    not count.
    """
    total = _started(kind.encode(), settings)
    for piece in content:
        total.update(piece)
    return total.hexdigest()


def effective(fingerprint: str, values: Mapping[str, Any]) -> str:
    """The effective digest: the fingerprint and the outputs that the stage consumed."""
    return _started(fingerprint.encode(), dict(values)).hexdigest()


def consumed(outputs: Mapping[str, Output], names: Iterable[str]) -> dict[str, Any]:
    """The values that count into an effective digest.

    Of a sensitive output only its presence does: the ledger does not store
    its value, and a digest of it could be guessed at.
    """
    return {
        name: None if outputs[name].sensitive or outputs[name].unknown else outputs[name].value
        for name in sorted(names)
        if name in outputs
    }


def is_settled(outputs: Mapping[str, Output], names: Iterable[str]) -> bool:
    """Whether all values that count into an effective digest are known before apply."""
    found = [outputs[name] for name in names if name in outputs]
    return not any(output.unknown and not output.sensitive for output in found)


def framed(field: bytes) -> bytes:
    """The field with its length before it, so that no two lists of fields look the same."""
    return length(len(field)) + field


def length(size: int) -> bytes:
    """A length, as it precedes each field: eight bytes, the highest first."""
    return size.to_bytes(8, "big")


def _started(what: bytes, values: Any) -> "hashlib._Hash":
    encoded = msgspec.json.encode(values, order="deterministic")
    return hashlib.sha256(framed(VERSION) + framed(what) + framed(encoded))
