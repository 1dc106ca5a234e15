"""A plan as Markdown, for a comment on a merge or pull request: a table,
and below it the details of each stage, folded.

Names may come from anybody. They appear in code spans and fenced blocks
only, where neither Markdown nor HTML, mentions nor quick actions are read.
The fence is always longer than any run of backticks in it.
"""

import re
from collections.abc import Iterable, Sequence

from cipipe.model import Plan, StagePlan, Status
from cipipe.report.text import baseline, block, counted, mode
from cipipe.terminal import visible

# Characters. GitHub accepts 65,536 in a comment, GitLab 1,000,000 in a
# note; whatever surrounds a plan needs some too.
LIMIT = 60_000

# How many paths of a stage are listed: fewer, until everything fits.
_PATHS = (200, 50, 10, 0)

_CUT = "_Cut to fit into a comment: `cipipe plan` shows the whole plan._"
_PLAIN = re.compile(r"[A-Za-z0-9 ,.()-]*")


def render(plan: Plan, limit: int = LIMIT) -> str:
    """The plan in at most `limit` characters. It says so if something was left out."""
    shown = [stage for stage in plan.stages if stage.status is not Status.UNCHANGED]
    for paths in _PATHS:
        text = _text(plan, [_details(stage, paths) for stage in shown])
        if len(text) <= limit:
            return text

    text = _text(plan, [_CUT])
    if len(text) <= limit:
        return text

    # Even the table is too long: as many of its lines as fit.
    room = limit - len(_CUT) - 3
    lines = _text(plan, [], warnings=False)[:room].split("\n")[:-1]
    return "\n".join([*lines, "", _CUT, ""])


def _text(plan: Plan, below: Iterable[str], *, warnings: bool = True) -> str:
    facts = (
        f"Commit {code(plan.commit[:7])}, mode {mode(plan)}, compared with {baseline(plan)}. "
        f"**{counted(plan)}**"
    )
    parts = [f"### {code(plan.project)} → {code(plan.environment)}", facts]
    if plan.warnings and warnings:
        parts += [f"**{_number(plan.warnings, 'warning')}**", _warnings(plan)]

    rows = ["| stage | status | reason | why |", "|---|---|---|---|"]
    for stage in plan.stages:
        status = stage.status.value
        if stage.status is not Status.UNCHANGED:
            status = f"**{status}**"
        cells = [code(stage.name), status, stage.reason.value, cell(stage.detail)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n\n".join([*parts, "\n".join(rows), *below]) + "\n"


def _warnings(plan: Plan) -> str:
    lines: list[str] = []
    for warning in plan.warnings:
        # Tabs would be shown as escapes.
        lines += [line.expandtabs() for line in block(warning, "    ").split("\n")]
    return fenced(lines)


def _details(stage: StagePlan, limit: int) -> str:
    counts = [_number(stage.steps, "step")]
    parts = []
    if stage.paths:
        counts.insert(0, _number(stage.paths, "path"))
        shown = [path.decode(errors="backslashreplace") for path in stage.paths[:limit]]
        left = len(stage.paths) - len(shown)
        if left:
            shown.append(f"… and {left} more")
        parts.append(fenced(shown))
    if stage.steps:
        parts.append(fenced(stage.steps))

    return folded(f"{stage.name}: {', '.join(counts)}", *parts)


def folded(title: str, *parts: str) -> str:
    """Markdown that is folded away below its title."""
    # A summary is HTML, where neither code spans nor fences protect. `: ` is
    # no emoji.
    unsafe = r"[^A-Za-z0-9 :,()]|:(?! )"
    escaped = re.sub(unsafe, lambda found: f"&#{ord(found[0])};", visible(title))
    return "\n\n".join([f"<details><summary>{escaped}</summary>", *parts, "</details>"])


def _number(things: Sequence[object], what: str) -> str:
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"


def cell(text: str) -> str:
    """Plain words as they are, anything else as code."""
    return text if _PLAIN.fullmatch(text) else code(text)


def code(text: str) -> str:
    """A code span, also within a table: there a bar would end the cell, even in a span."""
    shown = visible(text).replace("|", "\\x7c")
    marks = "`" * (_longest_run(shown) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") or not shown.strip() else ""
    return f"{marks}{pad}{shown}{pad}{marks}"


def fenced(lines: Iterable[str], language: str = "text") -> str:
    """Lines in a fenced block, each as it is."""
    shown = [visible(line) for line in lines]
    fence = "`" * max(3, _longest_run("\n".join(shown)) + 1)
    return "\n".join([f"{fence}{language}", *shown, fence])


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
