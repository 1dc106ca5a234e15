"""Plan, Report and Status for people. `style` colours a word; without a terminal it gives the word
back.
"""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime

from cipipe import terminal
from cipipe.model import (
    Check,
    EnvironmentStatus,
    Mode,
    Plan,
    Report,
    Result,
    StagePlan,
    Status,
    Verdict,
)
from cipipe.terminal import Style, visible

PATHS_SHOWN = 10

_STATUS = {Status.DUE: "yellow", Status.CONDITIONAL: "cyan", Status.UNCHANGED: "dim"}
_RESULT = {
    Result.DONE: "green",
    Result.UNCHANGED: "dim",
    Result.SKIPPED: "yellow",
    Result.FAILED: "red",
    Result.NOT_RUN: "yellow",
}
_VERDICT = {
    Verdict.OK: ("✓", "green"),
    Verdict.WARNING: ("!", "yellow"),
    Verdict.FAILED: ("✗", "red"),
    Verdict.SKIPPED: ("-", "dim"),
}
_MODE = {Mode.VERIFY: "verify (read only)", Mode.DEPLOY: "deploy", Mode.DESTROY: "destroy"}


def plain(word: str, colour: str) -> str:  # noqa: ARG001 - the Style that does nothing
    return word


def plan(plan: Plan, style: Style = plain) -> str:
    """What is due and why, the files that changed, and the steps of each stage that is not
    unchanged.
    """
    facts = f"commit {plan.commit[:7]}, mode {mode(plan)}, compared with {baseline(plan)}"
    lines = [
        f"{style(plan.project, 'bold')} → {style(plan.environment, 'bold')}  {facts}",
        "",
    ]
    width = max((len(stage.name) for stage in plan.stages), default=0)
    for stage in plan.stages:
        status = style(f"{stage.status.value:<11}", _STATUS[stage.status])
        lines.append(f"  {stage.name:<{width}}  {status}  {stage.detail} ({stage.reason.value})")
        lines += [f"  {'':<{width}}    {text}" for text in _below(stage, style)]
    lines += ["", counted(plan)]
    return "\n".join(lines) + "\n"


def mode(plan: Plan) -> str:
    return _MODE[plan.mode]


def baseline(plan: Plan) -> str:
    if plan.baseline.kind == "ledger":
        return "what is deployed"
    return f"commit {plan.baseline.revision[:7]}" if plan.baseline.revision else "nothing"


def counted(plan: Plan) -> str:
    due = sum(stage.status is Status.DUE for stage in plan.stages)
    conditional = sum(stage.status is Status.CONDITIONAL for stage in plan.stages)
    return (
        f"{due} due, {conditional} conditional, {len(plan.stages) - due - conditional} unchanged."
    )


def report(report: Report, style: Style = plain) -> str:
    """The table at the end of a run: stage, result, why, seconds, what it made."""
    rows = [("stage", "result", "why", "seconds", "made")]
    rows += [(s.name, s.result.value, s.detail, f"{s.seconds:.1f}", s.made) for s in report.stages]
    colours = ["", *(_RESULT[s.result] for s in report.stages)]
    return table(
        rows, [("", colour, "", "", "") for colour in colours], style, right={3}, give_way=2
    )


def status(environments: Sequence[EnvironmentStatus], commit: str, style: Style = plain) -> str:
    lines = []
    for environment in environments:
        lines.append(
            f"{style(environment.name, 'bold')}  account {environment.account_id}, {environment.region}"
        )
        if environment.unreadable is not None:
            lines.append(f"  cannot be read: {block(environment.unreadable, '    ')}\n")
            continue
        rows = [("stage", "state", "commit", "ref", "age", "this commit", "pipeline")]
        rows += [
            (
                stage.name,
                stage.state,
                (stage.commit or "–")[:7],
                stage.ref or "–",
                age(stage.finished_at),
                "differs" if stage.drift else "same",
                stage.pipeline_url or "–",
            )
            for stage in environment.stages
        ]
        lines.append(table(rows, [("",) * 7] * len(rows), style, indent="  "))
    return "\n".join(lines) + f"this commit: {commit[:7]}\n"


def checks(found: Sequence[Check], style: Style = plain) -> str:
    """One line for each check, its fix at the end."""
    width = max((len(check.name) for check in found), default=0)
    lines = []
    for check in found:
        mark, colour = _VERDICT[check.result]
        fix = f"; fix: {check.fix}" if check.fix else ""
        detail = block(f"{check.detail}{fix}", " " * (width + 4))
        lines.append(f"{style(mark, colour)} {check.name:<{width}}  {detail}\n")
    return "".join(lines)


def block(text: str, indent: str) -> str:
    """Text of several lines, such as a traceback; those after the first are indented."""
    return f"\n{indent}".join(terminal.lines(text))


def age(moment: str | None, now: datetime | None = None) -> str:
    """How long ago an ISO 8601 moment was, in its largest unit: `3 h`."""
    if moment is None:
        return "–"
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def table(
    rows: Sequence[tuple[str, ...]],
    colours: Sequence[tuple[str, ...]],
    style: Style,
    *,
    right: set[int] = frozenset(),  # type: ignore[assignment]
    give_way: int | None = None,
    indent: str = "",
) -> str:
    """Aligned columns; where the terminal is too narrow, column `give_way` is cut."""
    clean = [tuple(visible(cell) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in clean) for column in range(len(clean[0]))]
    if give_way is not None:
        room = shutil.get_terminal_size((160, 24)).columns - sum(widths) - 2 * len(widths)
        widths[give_way] = max(24, widths[give_way] + min(0, room))
    lines = []
    for row, row_colours in zip(clean, colours, strict=True):
        cells = []
        for column, (cell, colour) in enumerate(zip(row, row_colours, strict=True)):
            short = cell if len(cell) <= widths[column] else cell[: widths[column] - 1] + "…"
            padded = (
                f"{short:>{widths[column]}}" if column in right else f"{short:<{widths[column]}}"
            )
            cells.append(style(padded, colour) if colour else padded)
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines) + "\n"


def _below(stage: StagePlan, style: Style) -> list[str]:
    if stage.status is Status.UNCHANGED:
        return []
    paths = [
        style(visible(path.decode(errors="backslashreplace")), "dim")
        for path in stage.paths[:PATHS_SHOWN]
    ]
    if len(stage.paths) > PATHS_SHOWN:
        paths.append(style(f"… and {len(stage.paths) - PATHS_SHOWN} more", "dim"))
    return [*paths, *(f"- {visible(step)}" for step in stage.steps)]
