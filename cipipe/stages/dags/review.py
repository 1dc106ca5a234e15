"""What a merge request would change in the bucket, with the values of its
own Terraform plan: printed below the step, and kept in the report.

A value that is only known after apply is a placeholder in the diffs.
"""

from collections.abc import Iterable

import msgspec

from cipipe.model import State
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.dags.diff import FileChange, counted, shown_lines
from cipipe.stages.dags.files import count
from cipipe.stages.dags.markers.patch import Pending
from cipipe.stages.dags.render import Rendered
from cipipe.stages.dags.settings import Settings
from cipipe.stages.settings import Reference, shown

# The key in `StageResult.findings`.
TOPIC = "dags"

# Characters of all diffs together, in the log and in the report: the values
# are what a reviewer looks for, and the merge request shows the rest.
_LIMIT = 30_000

# Which diffs are shown first where not all of them are.
_ORDER = ("changed", "removed", "added")


class DagsReview(msgspec.Struct, frozen=True, kw_only=True):
    """What is found out in verify mode."""

    # What the files were compared with; None where there is no bucket yet.
    bucket: str | None
    prefix: str
    # How many keys are `added`, `changed`, `removed` and `unchanged`.
    summary: dict[str, int]
    # By key. Secrets in the diffs are masked, and long ones cut.
    changes: tuple[FileChange, ...]
    # Literals whose value is only known after apply.
    after_apply: tuple[Pending, ...]


def comparable(context: StageContext[Settings]) -> StageContext[Settings]:
    """The context with a bucket to compare with: where the one of the
    settings is only known after apply, that is the deployed one, if there
    is one.
    """
    bucket = context.stage.settings.bucket
    last = context.previous
    if not isinstance(bucket, Reference) or last is None or last.state is State.DESTROYED:
        return context
    deployed = last.data.get("bucket")
    if not deployed:
        return context
    context.line(f"{shown(bucket)} is only known after apply: compared with s3://{deployed}")
    settings = msgspec.structs.replace(context.stage.settings, bucket=deployed)
    return msgspec.structs.replace(
        context, stage=msgspec.structs.replace(context.stage, settings=settings)
    )


def is_planned(context: StageContext[Settings]) -> bool:
    """Whether the bucket is an output: then it is Terraform that creates it."""
    bucket = context.stage.settings.bucket
    return any(output.value == bucket for output in context.outputs.values())


def keep(
    context: StageContext[Settings],
    result: StageResult,
    rendered: Rendered,
    changes: Iterable[FileChange],
    *,
    bucket: str | None,
) -> None:
    """Print the changes, and keep them for the report. Without a bucket, everything is new."""
    limited = _limited(context, tuple(changes))
    written = sum(change.change != "removed" for change in limited)
    review = DagsReview(
        bucket=bucket,
        prefix=context.stage.settings.prefix,
        summary=counted(limited, unchanged=len(rendered.contents) - written),
        changes=limited,
        after_apply=rendered.pending,
    )
    for change in limited:
        for line in shown_lines(change.diff):
            context.line(line)
    if rendered.pending:
        values = count(len(rendered.pending), "value")
        result.summary = f"{result.summary}, {values} known after apply"
    result.findings[TOPIC] = msgspec.to_builtins(review)


def _limited(
    context: StageContext[Settings], changes: tuple[FileChange, ...]
) -> tuple[FileChange, ...]:
    """The changes with diffs that fit the limit together."""
    room = _LIMIT
    kept = {}
    for change in sorted(changes, key=lambda change: _ORDER.index(change.change)):
        # Masked before it is cut: half a secret would not be found.
        *lines, last = context.redactor.text(change.diff).split("\n")
        fitting: list[str] = []
        for line in lines:
            if len(line) >= room:
                fitting.append(f"… {count(len(lines) - len(fitting), 'more line')}")
                break
            room -= len(line) + 1
            fitting.append(line)
        kept[change.key] = msgspec.structs.replace(change, diff="\n".join([*fitting, last]))
    return tuple(kept[change.key] for change in changes)
