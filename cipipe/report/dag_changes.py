"""What would change in the bucket of a `dags` stage, as Markdown: for a comment
or a job's summary.
"""

from collections.abc import Iterable, Mapping, Sequence

from cipipe.report.markdown import LIMIT, code, fenced, folded
from cipipe.stages.dags.diff import FileChange, shown_lines
from cipipe.stages.dags.markers.patch import Pending

# Diffs that are shown, until everything fits; the others are only named.
_SHOWN = (1000, 50, 10, 0)

_CUT = "_Cut to fit into a comment: the job's log, or `cipipe dags diff`, shows more._"


def markdown(
    changes: Sequence[FileChange],
    *,
    where: str,
    summary: Mapping[str, int],
    after_apply: Iterable[Pending] = (),
    limit: int = LIMIT,
) -> str:
    """The changes in at most `limit` characters: a summary, and each diff folded.

    `where` is the folder in S3, as people should see it. `after_apply` are
    the values that only a placeholder stands for.
    """
    counts = ", ".join(f"{number} {kind}" for kind, number in summary.items())
    parts = [f"### DAGs: {code(where)}", f"**{counts}**"]
    pending = sorted({f"{value.output}: {value.type}" for value in after_apply})
    if pending:
        parts.append(folded(f"Known after apply ({len(pending)})", fenced(pending)))

    for shown in _SHOWN:
        diffs = [_folded(change) for change in changes[:shown]]
        if changes[shown:]:
            diffs.append(_CUT)
        made = "\n\n".join([*parts, *diffs]) + "\n"
        if len(made) <= limit:
            return made
    return "\n\n".join([*parts[:2], _CUT]) + "\n"


def _folded(change: FileChange) -> str:
    lines = [line.expandtabs() for line in shown_lines(change.diff)]
    # A new file before there is a bucket has no diff.
    below = [fenced(lines, language="diff")] if lines else []
    return folded(f"{change.key}: {change.change}", *below)
