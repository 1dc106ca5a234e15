"""What a deployment would change in the bucket, as unified diffs. Reads
only.

A literal with a marker that says `(sensitive ok)` is masked on both sides:
neither the old value nor the new one is shown.
"""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from cipipe.errors import Problem
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.dags.bucket import manifest, sharing
from cipipe.stages.dags.bucket.difference import Difference
from cipipe.stages.dags.bucket.objects import bucket_of, current_objects
from cipipe.stages.dags.bucket.parallel import in_parallel
from cipipe.stages.dags.markers.patch import Replacement, masked
from cipipe.stages.dags.markers.text import NotPythonError, decode
from cipipe.stages.dags.render import UNKNOWN_YET, Rendered, render
from cipipe.stages.dags.settings import Settings
from cipipe.terminal import visible
from cipipe.tools.aws.s3 import Bucket

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

    def summary(self) -> dict[str, int]:
        """How many keys of each kind of change, and how many stay."""
        return counted(self.changes, unchanged=self.unchanged)


def counted(changes: Iterable[FileChange], *, unchanged: int) -> dict[str, int]:
    """How many keys of each kind of change, and how many stay."""
    kinds = [change.change for change in changes]
    found = {kind: kinds.count(kind) for kind in ("added", "changed", "removed")}
    return {**found, "unchanged": unchanged}


def shown_lines(diff: str) -> Iterator[str]:
    """The lines of a diff as they may be printed.

    Tabs are part of source code, and harmless; what else is not printable
    is escaped.
    """
    for line in diff.splitlines():
        yield "\t".join(map(visible, line.split("\t")))


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

    there = [key for key in differing if present[key].sha256]
    changes = _changes(bucket, bodies, [*differing, *gone], there=[*there, *gone])
    written = {change.key for change in changes if change.change != "removed"}
    return BucketDiff(
        bucket=bucket.name,
        prefix=prefix,
        changes=changes,
        unchanged=len(bodies) - len(written),
        replacements=made.replacements,
        warnings=(*made.warnings, *_withheld(differing, written, made)),
    )


def changes_of(
    context: StageContext[Settings], bodies: Mapping[str, bytes], found: Difference
) -> tuple[FileChange, ...]:
    """What a difference that was found between contents, by key, and the bucket comes to."""
    differing = [*found.uploads, *found.gone]
    there = set(differing) - found.absent
    return _changes(bucket_of(context), bodies, differing, there=there)


def new_files(bodies: Mapping[str, bytes]) -> tuple[FileChange, ...]:
    """The changes where there is no bucket yet: every file is added."""
    return tuple(FileChange(key, "added", "") for key in sorted(bodies))


def _changes(
    bucket: Bucket, bodies: Mapping[str, bytes], keys: Iterable[str], *, there: Iterable[str]
) -> tuple[FileChange, ...]:
    """The change of each key; `there` are those that the bucket has."""
    stored = dict(in_parallel(bucket.get, sorted(there)))
    changes = []
    for key in sorted(keys):
        found = stored.get(key)
        change = _change(key, found.body if found else None, bodies.get(key))
        if change is not None:
            changes.append(change)
    return tuple(changes)


def _change(key: str, old: bytes | None, new: bytes | None) -> FileChange | None:
    """One change of contents, None being no object; None where they are the
    same, or only masked literals differ.
    """
    if old == new:
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
