"""What a run has done, as Markdown: for a job's summary, or a comment.

In a merge or pull request it has the diffs of the DAGs, which people review.
"""

from collections.abc import Iterator

import msgspec

from cipipe.errors import CipipeError
from cipipe.report import dag_changes
from cipipe.report.markdown import LIMIT, cell, code, fenced
from cipipe.report.text import MODES
from cipipe.results import Report, Result
from cipipe.stages.dags.review import TOPIC, DagsReview
from cipipe.terminal import lines

# Lines of an error; the log has all of them.
_ERROR_LINES = 40

# Characters that are left for the diffs of one more stage; with fewer it
# gets none.
_LEAST = 500


def markdown(report: Report, error: CipipeError | None = None, limit: int = LIMIT) -> str:
    """A table of the stages, the error, and what would change in the DAGs'
    buckets, in about `limit` characters.
    """
    parts = [
        f"### {code(report.project)} → {code(report.environment)}",
        f"Commit {code(report.commit[:7])}, mode {MODES[report.mode]}.",
        "\n".join(_table(report)),
    ]
    if error is not None:
        parts += [f"**Error {code(error.id)}**", fenced(lines(error.message)[:_ERROR_LINES])]

    for where, review in _reviews(report):
        room = limit - sum(map(len, parts))
        if room < _LEAST:
            break
        shown = dag_changes.markdown(
            review.changes,
            where=where,
            summary=review.summary,
            after_apply=review.after_apply,
            limit=room,
        )
        parts.append(shown.rstrip("\n"))
    return "\n\n".join(parts) + "\n"


def _table(report: Report) -> Iterator[str]:
    yield "| stage | result | why | made |"
    yield "|---|---|---|---|"
    for stage in report.stages:
        result = stage.result.value
        shown = result if stage.result is Result.UNCHANGED else f"**{result}**"
        cells = [
            code(stage.name),
            shown,
            cell(stage.detail),
            cell(stage.made) if stage.made else "",
        ]
        yield f"| {' | '.join(cells)} |"


def _reviews(report: Report) -> Iterator[tuple[str, DagsReview]]:
    """What each `dags` stage found out in verify mode, with the folder in S3."""
    for stage in report.stages:
        if TOPIC in stage.findings:
            review = msgspec.convert(stage.findings[TOPIC], DagsReview)
            bucket = (
                f"s3://{review.bucket}/" if review.bucket else "a bucket that is not there yet: "
            )
            yield f"{bucket}{review.prefix}", review
