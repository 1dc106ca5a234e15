"""A plan as Markdown, for a comment on a merge or pull request: a table, then what lies behind it,
folded.

Names may come from anybody. They stand in code spans and fenced blocks only, where neither Markdown
nor HTML, mentions nor quick actions are read; the fence is always longer than what a name could end
it with.
"""

import re
from collections.abc import Iterable, Sequence

from cipipe.model import Plan, StagePlan, Status
from cipipe.report.text import baseline, block, counted, mode
from cipipe.terminal import visible

LIMIT = 60_000
"""Characters. GitHub takes 65,536 in a comment, GitLab 1,000,000 in a note; what surrounds a plan
needs some too.
"""

_PATHS = (200, 50, 10, 0)
"""How many paths of a stage are listed: fewer, until the whole fits."""

_CUT = "_Cut to fit into a comment: `cipipe plan` shows the whole plan._"
_PLAIN = re.compile(r"[A-Za-z0-9 ,.()-]*")


def render(plan: Plan, limit: int = LIMIT) -> str:
    """The plan in at most `limit` characters; where something was left out, it says so."""
    for paths in _PATHS:
        text = _text(
            plan,
            [
                _details(stage, paths)
                for stage in plan.stages
                if stage.status is not Status.UNCHANGED
            ],
        )
        if len(text) <= limit:
            return text
    text = _text(plan, [_CUT])
    if len(text) <= limit:
        return text
    room = limit - len(_CUT) - 3
    lines = _text(plan, [], warnings=False)[:room].split("\n")[:-1]
    return "\n".join([*lines, "", _CUT, ""])


def _text(plan: Plan, below: Iterable[str], *, warnings: bool = True) -> str:
    facts = f"Commit {_code(plan.commit[:7])}, mode {mode(plan)}, compared with {baseline(plan)}. **{counted(plan)}**"
    head = f"### {_code(plan.project)} → {_code(plan.environment)}\n\n{facts}"
    warned = [
        line.expandtabs()
        for warning in plan.warnings
        for line in block(warning, "    ").split("\n")
    ]
    told = (
        [f"**{_number(plan.warnings, 'warning')}**\n\n{_block(warned)}"]
        if plan.warnings and warnings
        else []
    )
    rows = ["| stage | status | reason | why |", "|---|---|---|---|"]
    for stage in plan.stages:
        status = (
            stage.status.value if stage.status is Status.UNCHANGED else f"**{stage.status.value}**"
        )
        rows.append(
            f"| {_code(stage.name)} | {status} | {stage.reason.value} | {_cell(stage.detail)} |"
        )
    return "\n\n".join([head, *told, "\n".join(rows), *below]) + "\n"


def _details(stage: StagePlan, limit: int) -> str:
    parts = []
    if stage.paths:
        shown = [path.decode(errors="backslashreplace") for path in stage.paths[:limit]]
        left = len(stage.paths) - len(shown)
        parts.append(_block([*shown, *([f"… and {left} more"] if left else [])]))
    if stage.steps:
        parts.append(_block(stage.steps))
    summary = ", ".join(
        [*([_number(stage.paths, "path")] if stage.paths else []), _number(stage.steps, "step")]
    )
    name = re.sub(r"[^A-Za-z0-9]", lambda found: f"&#{ord(found[0])};", visible(stage.name))
    return "\n\n".join([f"<details><summary>{name}: {summary}</summary>", *parts, "</details>"])


def _number(things: Sequence[object], what: str) -> str:
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"


def _cell(text: str) -> str:
    """Words as they are; whatever else there is, as code."""
    return text if _PLAIN.fullmatch(text) else _code(text)


def _code(text: str) -> str:
    """A code span, within a table too: a bar would end the cell, whatever stands around it."""
    shown = visible(text).replace("|", "\\x7c")
    marks = "`" * (_longest_run(shown) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") or not shown.strip() else ""
    return f"{marks}{pad}{shown}{pad}{marks}"


def _block(lines: Iterable[str]) -> str:
    shown = [visible(line) for line in lines]
    fence = "`" * max(3, _longest_run("\n".join(shown)) + 1)
    return "\n".join([f"{fence}text", *shown, fence])


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
