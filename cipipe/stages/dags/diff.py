"""What a deployment would change in the bucket, as unified diffs. Reads
only.

A literal with a marker that says `(sensitive ok)` is masked on both sides:
neither the old value nor the new one is shown.
"""

import difflib
from collections.abc import Collection
from typing import Any

import msgspec

from cipipe.errors import Problem
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.dags.bucket import manifest, sharing
from cipipe.stages.dags.bucket.objects import bucket_of, current_objects
from cipipe.stages.dags.bucket.parallel import in_parallel
from cipipe.stages.dags.markers.patch import Replacement, masked
from cipipe.stages.dags.markers.text import NotPythonError, decode
from cipipe.stages.dags.render import UNKNOWN_YET, Rendered, render
from cipipe.stages.dags.settings import Settings

# A misspelt output is an error; a sensitive value that the ledger does not
# keep is a note.
_TOLERATED = UNKNOWN_YET - {"dag-output-unknown"}


class FileChange(msgspec.Struct, frozen=True):
    """One key that a deployment would change."""

    key: str
    # `added`, `changed` or `removed`
    change: str
    # A unified diff, or a line that says why there is none.
    diff: str


class BucketDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment would do to the bucket."""

    bucket: str
    prefix: str
    changes: tuple[FileChange, ...] = ()
    unchanged: int = 0
    # Those of all files, changed or not.
    replacements: tuple[Replacement, ...] = ()
    warnings: tuple[Problem, ...] = ()

    def summary(self) -> dict[str, Any]:
        """How many keys of each kind of change, and how many stay."""
        kinds = [change.change for change in self.changes]
        return {
            **{kind: kinds.count(kind) for kind in ("added", "changed", "removed")},
            "unchanged": self.unchanged,
        }


def preview(context: StageContext[Settings], result: StageResult) -> BucketDiff:
    """Compare what the commit would become with what is in the bucket.

    Raises as a deployment does, and writes nothing.
    """
    made = render(context, tolerate=_TOLERATED)
    bodies = made.contents
    wanted = manifest.hashes_of(bodies)
    bucket = bucket_of(context)
    prefix = context.stage.settings.prefix

    sharing.refuse_taken(context, bucket.name, wanted)
    entries, _ = manifest.owned(result.data, bucket.name)
    owned = sharing.without_taken(context, bucket.name, entries)
    present = current_objects(bucket, wanted, known=owned, prefix=prefix)
    differing = [key for key, sha256 in wanted.items() if present[key].sha256 != sha256]
    gone = sorted(owned.keys() - bodies.keys())

    replaced = [key for key in differing if present[key].sha256]
    stored = dict(in_parallel(bucket.get, [*replaced, *gone]))
    changes = []
    for key in sorted([*differing, *gone]):
        found = stored.get(key)
        change = _change(key, found.body if found else None, bodies.get(key))
        if change is not None:
            changes.append(change)

    written = {change.key for change in changes if change.change != "removed"}
    return BucketDiff(
        bucket=bucket.name,
        prefix=prefix,
        changes=tuple(changes),
        unchanged=len(bodies) - len(written),
        replacements=made.replacements,
        warnings=(*made.warnings, *_withheld(differing, written, made)),
    )


def _change(key: str, old: bytes | None, new: bytes | None) -> FileChange | None:
    """One change of contents, None being no object; None where only masked literals differ."""
    if old is None and new is None:
        return None
    text = _unified(old, new, key)
    if text is None:
        return None
    if old is None:
        return FileChange(key, "added", text)
    return FileChange(key, "removed" if new is None else "changed", text)


def _withheld(differing: list[str], shown: Collection[str], made: Rendered) -> list[Problem]:
    """Notes of files that differ in nothing but masked literals."""
    paths = {key: path for path, key in made.keys.items()}
    return [
        Problem(
            "dag-output-withheld",
            "has a sensitive output, whose value is not kept in the ledger:"
            " whether it would change is not known",
            paths[key],
        )
        for key in differing
        if key not in shown
    ]


def _unified(old: bytes | None, new: bytes | None, key: str) -> str | None:
    """The unified diff of two contents; None where only masked literals differ."""
    before = _lines(old, key)
    after = _lines(new, key)
    old_name = _name("a", key, old)
    new_name = _name("b", key, new)
    if before is None or after is None:
        return f"Binary files {old_name} and {new_name} differ\n"
    if old is not None and new is not None and before == after:
        if masked(old, key) != old or masked(new, key) != new:
            return None
        return f"Files {old_name} and {new_name} differ in their encoding or line ends only\n"

    lines = difflib.unified_diff(before, after, fromfile=old_name, tofile=new_name)
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _lines(body: bytes | None, key: str) -> list[str] | None:
    """The lines of a text; None where it is binary."""
    if body is None:
        return []
    hidden = masked(body, key)
    # As git decides it.
    if b"\0" in hidden:
        return None
    try:
        text = decode(hidden)
    except NotPythonError:
        return hidden.decode("utf-8", "backslashreplace").splitlines(keepends=True)
    return list(text.lines)


def _name(side: str, key: str, body: bytes | None) -> str:
    return "/dev/null" if body is None else f"{side}/{key}"
