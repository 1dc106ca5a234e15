"""Which keys the stage owns, as its record in the ledger has it.

The manifest names a key before it is written and until it is deleted, so
that a run that is stopped at any moment forgets nothing. The keys of `data`
in a record:

- `bucket`: the bucket of the manifest
- `manifest`: {key: {"sha256", "version"}}; `sha256` is null while the content is uncertain
- `deleted`: keys that were deleted, of which the bucket keeps older versions
- `former`: {bucket: [key]} in buckets that the stage used before, until they are deleted
- `outputs`, `made_of`: what the files were made from
- `rollback`, `restored`: set by rollbacks
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

# A key that may have any content: it is about to be written.
UNCERTAIN: Mapping[str, Any] = {"sha256": None, "version": None}

# While a rollback runs: when the deployment finished that it goes back to.
GOING_BACK = "rollback"
# After a rollback: when the deployment finished that it went back to.
RESTORED = "restored"
# The names of the outputs in the files' markers, so that a plan need not
# read the files.
OUTPUTS = "outputs"
# A digest of all that the files were patched with; missing where some of it
# is secret.
MADE_OF = "made_of"


def hashes_of(bodies: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 of contents, by key, in the order of the keys."""
    return {key: hashlib.sha256(body).hexdigest() for key, body in sorted(bodies.items())}


def hashes(data: Mapping[str, Any]) -> dict[str, str | None]:
    """The SHA-256 of every key of a record's manifest."""
    return {key: entry["sha256"] for key, entry in (data.get("manifest") or {}).items()}


def made_from(context: StageContext[Settings], names: Iterable[str]) -> dict[str, Any]:
    """What the files are made from, for the record: `outputs`, and `made_of` if not secret."""
    outputs = sorted(names)
    digest = made_of(context, outputs)
    return {OUTPUTS: outputs} if digest is None else {OUTPUTS: outputs, MADE_OF: digest}


def made_of(context: StageContext[Settings], names: Iterable[str]) -> str | None:
    """A digest of what determines the uploaded files, besides the commit.

    That is this version of cipipe, the resolved settings, and the values of
    the outputs with these names. None where one of them is missing, or
    sensitive: a digest of a secret can be guessed.
    """
    values = {}
    for name in names:
        output = context.outputs.get(name)
        if output is None or output.sensitive or output.value in (None, msgspec.UNSET):
            return None
        values[name] = output.value
    parts = (__version__, msgspec.to_builtins(context.stage.settings), values)
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def proven(context: StageContext[Settings], result: StageResult) -> dict[str, str] | None:
    """The SHA-256 of every file to upload, where the record proves it; None
    where it does not.

    Then the files need not be read and patched: the same commit, outputs
    and settings give the same files.
    """
    names = result.data.get(OUTPUTS)
    recorded = result.data.get(MADE_OF)
    if not context.is_current or context.mode is not Mode.DEPLOY:
        return None
    if names is None or recorded is None or made_of(context, names) != recorded:
        return None

    known = {key: sha256 for key, sha256 in hashes(result.data).items() if sha256 is not None}
    # An uncertain key proves nothing, and neither does a record without
    # keys.
    return known if known and len(known) == len(result.data["manifest"]) else None


def owned(data: Mapping[str, Any], bucket: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The entries for this bucket, and the keys still owned in other
    buckets.

    If the stage moved to this bucket, its manifest is of another one, and
    its keys have to be deleted there. If it moved back, they are owned here
    again, with whatever content.
    """
    entries = dict(data.get("manifest") or {})
    former = {name: list(keys) for name, keys in (data.get("former") or {}).items()}
    recorded = data.get("bucket", bucket)
    if recorded != bucket:
        former[recorded] = sorted({*former.get(recorded, ()), *entries})
        entries = {}
    entries |= dict.fromkeys(former.pop(bucket, ()), UNCERTAIN)
    return entries, former


def before_writing(
    data: Mapping[str, Any],
    *,
    bucket: str,
    entries: Mapping[str, Any],
    former: Mapping[str, Any],
    wanted: Iterable[str],
    made_from: Mapping[str, Any],
) -> dict[str, Any]:
    """The record's data as it has to be before the first write.

    `entries` has every key that may be written or deleted; `made_from` has
    `outputs` and `made_of` where they are known. What belongs to others,
    such as the MWAA environment's versions, stays.
    """
    about_content = {GOING_BACK, RESTORED, OUTPUTS, MADE_OF}
    deleted = data.get("deleted", ()) if data.get("bucket") == bucket else ()
    return {
        **{key: value for key, value in data.items() if key not in about_content},
        "bucket": bucket,
        "manifest": dict(entries),
        "deleted": sorted(set(deleted).difference(wanted)),
        "former": former,
        **made_from,
    }


def entries(data: Mapping[str, Any], bucket: str) -> Mapping[str, Mapping[str, Any]]:
    """The entries of the manifest, if it is of this bucket."""
    return data.get("manifest") or {} if data.get("bucket") == bucket else {}


def places(data: Mapping[str, Any], bucket: Setting) -> dict[str, list[str]]:
    """Every key that the stage owns, by bucket."""
    found = {name: list(keys) for name, keys in (data.get("former") or {}).items()}
    manifest = data.get("manifest") or {}
    if manifest:
        name = data.get("bucket") or literal(bucket)
        found[name] = sorted({*found.get(name, ()), *manifest})
    return found


def owns(data: Mapping[str, Any]) -> frozenset[str]:
    """Every object that the stage owns, as `s3://BUCKET/KEY`: deleted ones have older versions."""
    urls = {
        f"s3://{name}/{key}" for name, keys in (data.get("former") or {}).items() for key in keys
    }
    bucket = data.get("bucket")
    if bucket:
        here = {*(data.get("manifest") or {}), *(data.get("deleted") or ())}
        urls |= {f"s3://{bucket}/{key}" for key in here}
    return frozenset(urls)
