"""What a destroy deletes, and what somebody should know before, as text."""

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from cipipe.errors import Problem
from cipipe.report.text import block, plain, table
from cipipe.results import Loss, Report, StageReport
from cipipe.terminal import Style, visible

T = TypeVar("T")

_SORTS = {"object": "objects in", "image": "images in"}


def losses(report: Report, style: Style = plain) -> str:
    """A table of what every stage loses, then the warnings."""
    rows: list[tuple[str, ...]] = [("stage", "what is deleted", "count", "")]
    colours: list[tuple[str, ...]] = [("",) * 4]
    for stage in report.stages:
        found = list(_found(stage, "lost", Loss))
        for loss in found:
            what = f"{_SORTS[loss.sort]} {loss.name}" if loss.sort in _SORTS else loss.name
            count = f"{'> ' if loss.more else ''}{loss.count:,}"
            rows.append((stage.name, what, count, ", ".join(_notes(loss))))
            colours.append(("", "", "", "red" if loss.protected or loss.unowned else ""))
        if not found:
            rows.append((stage.name, "nothing", "0", ""))
            colours.append(("",) * 4)

    lines = [table(rows, colours, style, right=frozenset({2}), give_way=1)]
    for stage in report.stages:
        for warning in _found(stage, "warnings", Problem):
            text = block(f"{warning.message} ({warning.id})", "    ")
            lines.append(f"{style('!', 'yellow')} {visible(warning.where)}: {text}\n")
            if warning.hint:
                lines.append(f"    {block(warning.hint, '    ')}\n")
    return "".join(lines)


def _found(stage: StageReport, topic: str, shape: type[T]) -> Iterator[T]:
    entries = stage.findings.get("destroy", {}).get(topic, [])
    return (msgspec.convert(entry, shape) for entry in entries)


def _notes(loss: Loss) -> Iterator[str]:
    if loss.protected:
        yield "hold data, or take long to rebuild"
    if loss.versions is not None and loss.versions != loss.count:
        yield f"{loss.versions:,} versions"
    if loss.unowned:
        yield f"{loss.unowned:,} of no stage"
