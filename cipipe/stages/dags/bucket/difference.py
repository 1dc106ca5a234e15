"""What has to be done to make the bucket what it should be. Pure: data in, data out."""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from cipipe.stages.dags.bucket.manifest import UNCERTAIN
from cipipe.stages.dags.bucket.objects import CurrentObject

# Entries of a manifest, by key: {"sha256": …, "version": …}.
Entries = Mapping[str, Mapping[str, Any]]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The keys to write and to delete, and the manifest that the record needs before that."""

    # Keys whose object is missing, has other content, or is not known to be
    # ours.
    uploads: frozenset[str] = frozenset()
    # Those of them without an object: writing them must not replace one
    # that appears meanwhile.
    absent: frozenset[str] = frozenset()
    # Objects that are replaced although nothing says that they are ours,
    # sorted.
    adopted: tuple[str, ...] = ()
    # Keys that are owned and no longer wanted, sorted.
    gone: tuple[str, ...] = ()
    # How many keys are as they should be.
    unchanged: int = 0
    # Every key that the stage owns from now on. A run may stop at any
    # moment: what is written must be known as owned before, with an
    # uncertain content.
    manifest: dict[str, Mapping[str, Any]] = {}


def difference(
    wanted: Mapping[str, str], owned: Entries, present: Mapping[str, CurrentObject]
) -> Difference:
    """Compare SHA-256 by key (`wanted`) with what is in the bucket
    (`present`).

    `owned` has the entries of the manifest; `present` has every key of
    both.
    """
    uploads = {
        key for key, sha256 in wanted.items() if _differs(key, sha256, owned, present=present)
    }
    absent = {key for key in wanted if present[key].sha256 is None}
    gone = sorted(owned.keys() - wanted.keys())

    manifest = {key: owned[key] for key in gone}
    for key in wanted:
        manifest[key] = UNCERTAIN if key in uploads else _entry(present[key])
    return Difference(
        uploads=frozenset(uploads),
        absent=frozenset(absent),
        adopted=tuple(sorted(uploads - owned.keys() - absent)),
        gone=tuple(gone),
        unchanged=len(wanted) - len(uploads),
        manifest=manifest,
    )


def revised(
    before: Difference,
    wanted: Mapping[str, str],
    present: Mapping[str, CurrentObject],
    lost: Collection[str],
) -> Difference:
    """The same, after a second look at the keys that the first one did not
    make uploads.

    What somebody wrote in the meantime is uploaded too. `lost` are keys
    that were to be deleted and belong to others by now: they are left
    alone, and are no longer owned.
    """
    manifest = {key: entry for key, entry in before.manifest.items() if key not in lost}
    changed = set()
    for key in wanted.keys() & present.keys():
        if present[key].sha256 == wanted[key]:
            manifest[key] = _entry(present[key])
        else:
            changed.add(key)
            manifest[key] = UNCERTAIN
    return msgspec.structs.replace(
        before,
        uploads=before.uploads | changed,
        gone=tuple(key for key in before.gone if key not in lost),
        unchanged=before.unchanged - len(changed),
        manifest=manifest,
    )


def _differs(key: str, sha256: str, owned: Entries, present: Mapping[str, CurrentObject]) -> bool:
    found = present[key]
    # The right content without any owner is uploaded as well, which writes
    # the owner to it.
    return found.sha256 != sha256 or (key not in owned and found.owner is None)


def _entry(found: CurrentObject) -> dict[str, Any]:
    return {"sha256": found.sha256, "version": found.version}
