"""Which keys the stage owns, as its record in the ledger tells it.

`data["manifest"]` is `{key: {"sha256", "version"}}` for the keys in `data["bucket"]`. It names a
key before the key is written and until it is deleted, so that a run that is cut off anywhere
forgets nothing; `sha256` is null while it is uncertain. `data["deleted"]` lists keys that it has
deleted, of which the bucket keeps older versions; `data["former"]` lists keys in buckets that the
stage used before, until they are deleted.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from cipipe import __version__
from cipipe.model import Mode
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.dags.settings import Settings
from cipipe.stages.settings import Setting, literal

UNCERTAIN: Mapping[str, Any] = {"sha256": None, "version": None}
"""A key that may hold anything: it is about to be written."""

GOING_BACK = "rollback"
"""In `data` of a record while a rollback is under way: when the deployment ended that it goes back
to.
"""

OUTPUTS = "outputs"
"""In `data` of a record: the names of the outputs that the files ask for, so that they need not be
read for it again.
"""

MADE_OF = "made_of"
"""In `data` of a record: a digest of all that the files were patched with, where nothing of it is
secret.
"""

RESTORED = "restored"
"""In `data` of a record that a rollback wrote: when the deployment ended that it went back to."""


def hashes_of(bodies: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 of contents, by key, in the order of the keys."""
    return {key: hashlib.sha256(body).hexdigest() for key, body in sorted(bodies.items())}


def hashes(data: Mapping[str, Any]) -> dict[str, str | None]:
    """The SHA-256 of every key of a record's manifest."""
    return {key: entry["sha256"] for key, entry in (data.get("manifest") or {}).items()}


def made_of(context: StageContext[Settings], asked: Iterable[str]) -> str | None:
    """A digest of what makes the files what they are, besides the commit: this version of cipipe,
    the settings as they turned out, and the values of outputs. None where a value is sensitive (a
    digest can be guessed at) or not there.
    """
    values = {}
    for name in asked:
        output = context.outputs.get(name)
        if output is None or output.sensitive or output.value in (None, msgspec.UNSET):
            return None
        values[name] = output.value
    parts = (__version__, msgspec.to_builtins(context.stage.settings), values)
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def proven(context: StageContext[Settings], result: StageResult) -> dict[str, str] | None:
    """What the stage's files come to, by key, where the record says so; None where they have to be
    read.
    """
    asked, told = result.data.get(OUTPUTS), result.data.get(MADE_OF)
    if not context.is_current or context.mode is not Mode.DEPLOY or asked is None or told is None:
        return None
    if made_of(context, asked) != told:
        return None
    known = {key: sha256 for key, sha256 in hashes(result.data).items() if sha256 is not None}
    return known if known and len(known) == len(result.data["manifest"]) else None


def owned(data: Mapping[str, Any], bucket: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The manifest for this bucket, and the keys that are still owned in buckets that were used
    before.
    """
    entries = dict(data.get("manifest") or {})
    former = {name: list(keys) for name, keys in (data.get("former") or {}).items()}
    recorded = data.get("bucket", bucket)
    if recorded != bucket:
        former[recorded] = sorted({*former.get(recorded, ()), *entries})
        entries = {}
    entries |= dict.fromkeys(former.pop(bucket, ()), UNCERTAIN)
    return entries, former


def entries(data: Mapping[str, Any], bucket: str) -> Mapping[str, Mapping[str, Any]]:
    """What the manifest says of keys in this bucket."""
    return data.get("manifest") or {} if data.get("bucket") == bucket else {}


def places(data: Mapping[str, Any], bucket: Setting) -> dict[str, list[str]]:
    """Every key that the stage owns, by bucket."""
    found = {name: list(keys) for name, keys in (data.get("former") or {}).items()}
    entries = data.get("manifest") or {}
    if entries:
        name = data.get("bucket") or literal(bucket)
        found[name] = sorted({*found.get(name, ()), *entries})
    return found


def owns(data: Mapping[str, Any]) -> frozenset[str]:
    """Every object that the stage owns, older versions of deleted ones included, as
    `s3://BUCKET/KEY`.
    """
    found = {name: list(keys) for name, keys in (data.get("former") or {}).items()}
    name = data.get("bucket")
    here = {*(data.get("manifest") or {}), *(data.get("deleted") or ())} if name else set()
    return frozenset(
        f"s3://{bucket}/{key}" for bucket, keys in [*found.items(), (name, here)] for key in keys
    )
