"""What a deployment would change in the bucket, as unified diffs. Reads only.

A literal whose marker says `(sensitive ok)` is masked on both sides: neither the old value nor the
new one is shown.
"""

import difflib
from typing import Any

import msgspec

from cipipe.errors import Problem
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.dags.bucket import manifest, sharing
from cipipe.stages.dags.bucket.objects import current_objects
from cipipe.stages.dags.bucket.parallel import in_parallel
from cipipe.stages.dags.deploy import bucket_of
from cipipe.stages.dags.markers.patch import Replacement, masked
from cipipe.stages.dags.markers.text import NotPythonError, decode
from cipipe.stages.dags.render import UNKNOWN_YET, Rendered, render
from cipipe.stages.dags.settings import Settings

_WITHHELD = UNKNOWN_YET - {"dag-output-unknown"}


class FileChange(msgspec.Struct, frozen=True):
    """One key that a deployment would change: `change` is `added`, `changed` or `removed`."""

    key: str
    change: str
    diff: str


class BucketDiff(msgspec.Struct, frozen=True):
    """What a deployment would do to the bucket. `replacements` are those of all files, changed or
    not.
    """

    bucket: str
    prefix: str
    changes: tuple[FileChange, ...]
    unchanged: int
    replacements: tuple[Replacement, ...]
    warnings: tuple[Problem, ...]

    def summary(self) -> dict[str, Any]:
        """How many keys of each kind of change, and how many stay."""
        kinds = [change.change for change in self.changes]
        return {
            **{kind: kinds.count(kind) for kind in ("added", "changed", "removed")},
            "unchanged": self.unchanged,
        }


def preview(context: StageContext[Settings], result: StageResult) -> BucketDiff:
    """Compare what the commit would become with what is in the bucket. Raises as a deployment does,
    and writes nothing.
    """
    made = render(context, tolerate=_WITHHELD)
    bucket = bucket_of(context)
    bodies = made.contents
    wanted = manifest.hashes_of(bodies)
    sharing.refuse_taken(context, bucket.name, wanted)
    owned = sharing.without_taken(context, bucket.name, manifest.owned(result.data, bucket.name)[0])
    there = current_objects(bucket, wanted, owned, context.stage.settings.prefix)
    differing = [key for key, sha256 in wanted.items() if there[key].sha256 != sha256]
    gone = sorted(owned.keys() - bodies.keys())
    stored = dict(
        in_parallel(bucket.get, [*(key for key in differing if there[key].sha256), *gone])
    )
    changes = []
    for key in sorted([*differing, *gone]):
        found = stored.get(key)
        new = bodies.get(key)
        if found is None and new is None:
            continue
        text = _unified(found.body if found else None, new, key)
        if text is not None:
            changes.append(
                FileChange(
                    key, "added" if found is None else "removed" if new is None else "changed", text
                )
            )
    notes = (*made.warnings, *_unsaid(differing, {change.key for change in changes}, made))
    removed = sum(change.change == "removed" for change in changes)
    unchanged = len(bodies) - (len(changes) - removed)
    return BucketDiff(
        bucket.name,
        context.stage.settings.prefix,
        tuple(changes),
        unchanged,
        made.replacements,
        notes,
    )


def _unsaid(differing: list[str], shown: set[str], made: Rendered) -> list[Problem]:
    paths = {key: path for path, key in made.keys.items()}
    return [
        Problem(
            "dag-output-withheld",
            "holds a sensitive output, whose value is not kept in the ledger: whether it would change is not known",
            paths[key],
        )
        for key in differing
        if key not in shown
    ]


def _unified(old: bytes | None, new: bytes | None, key: str) -> str | None:
    """The unified diff of two contents, None being no file; None where they are the same but for
    masked literals.
    """
    before, after = (_lines(body, key) for body in (old, new))
    if before is None or after is None:
        return f"Binary files {_name('a', key, old)} and {_name('b', key, new)} differ\n"
    if old is not None and new is not None and before == after:
        return None if masked(old, key) != old or masked(new, key) != new else _other_bytes(key)
    lines = difflib.unified_diff(before, after, _name("a", key, old), _name("b", key, new))
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _lines(body: bytes | None, key: str) -> list[str] | None:
    """The lines of a text; None where it is none."""
    if body is None:
        return []
    hidden = masked(body, key)
    if b"\0" in hidden:
        return None
    try:
        text = decode(hidden)
    except NotPythonError:
        return hidden.decode("utf-8", "backslashreplace").splitlines(keepends=True)
    return list(text.lines)


def _name(side: str, key: str, body: bytes | None) -> str:
    return "/dev/null" if body is None else f"{side}/{key}"


def _other_bytes(key: str) -> str:
    return f"Files a/{key} and b/{key} differ in their encoding or line ends only\n"
