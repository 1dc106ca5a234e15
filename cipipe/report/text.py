"""Plans, reports and states as text for people. Without a terminal, `style` changes nothing."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime

from cipipe import terminal
from cipipe.model import FailedAttempt, Mode, Plan, StagePlan, Status
from cipipe.results import Check, EnvironmentStatus, Report, Result, StageStatus, Verdict
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
MODES = {Mode.VERIFY: "verify (read only)", Mode.DEPLOY: "deploy", Mode.DESTROY: "destroy"}


plain = terminal.unstyled


def plan(plan: Plan, style: Style = plain) -> str:
    """What is due and why, with the changed files and the steps of each stage that is due."""
    facts = f"commit {plan.commit[:7]}, mode {mode(plan)}, compared with {baseline(plan)}"
    lines = [f"{style(plan.project, 'bold')} → {style(plan.environment, 'bold')}  {facts}", ""]

    width = max((len(stage.name) for stage in plan.stages), default=0)
    for stage in plan.stages:
        status = style(f"{stage.status.value:<11}", _STATUS[stage.status])
        lines.append(f"  {stage.name:<{width}}  {status}  {stage.detail} ({stage.reason.value})")
        lines += [f"  {'':<{width}}    {text}" for text in _below(stage, style)]

    lines += ["", counted(plan)]
    return "\n".join(lines) + "\n"


def mode(plan: Plan) -> str:
    return MODES[plan.mode]


def baseline(plan: Plan) -> str:
    """What the plan was compared with, as the end of a sentence."""
    if plan.baseline.kind == "ledger":
        return "what is deployed"
    return f"commit {plan.baseline.revision[:7]}" if plan.baseline.revision else "nothing"


def counted(plan: Plan) -> str:
    due = sum(stage.status is Status.DUE for stage in plan.stages)
    conditional = sum(stage.status is Status.CONDITIONAL for stage in plan.stages)
    unchanged = len(plan.stages) - due - conditional
    return f"{due} due, {conditional} conditional, {unchanged} unchanged."


def report(report: Report, style: Style = plain) -> str:
    """The table at the end of a run: stage, result, why, seconds, what it made."""
    rows: list[tuple[str, ...]] = [("stage", "result", "why", "seconds", "made")]
    colours: list[tuple[str, ...]] = [("",) * 5]
    for stage in report.stages:
        seconds = f"{stage.seconds:.1f}"
        rows.append((stage.name, stage.result.value, stage.detail, seconds, stage.made))
        colours.append(("", _RESULT[stage.result], "", "", ""))

    # Column 3 has numbers; column 2 is the one that a reader can do
    # without.
    return table(rows, colours, style, right=frozenset({3}), give_way=2)


def status(environments: Sequence[EnvironmentStatus], commit: str, style: Style = plain) -> str:
    """What is deployed in each environment, compared with a commit."""
    lines = []
    for environment in environments:
        name = style(environment.name, "bold")
        lines.append(f"{name}  account {environment.account_id}, {environment.region}")
        if environment.unreadable is not None:
            lines.append(f"  cannot be read: {block(environment.unreadable, '    ')}\n")
            continue

        rows: list[tuple[str, ...]] = [
            ("stage", "state", "commit", "ref", "age", "this commit", "pipeline")
        ]
        rows += [_status_row(stage) for stage in environment.stages]
        failures = [
            f"  {stage.name}: {_failure(stage.last_failure)}\n"
            for stage in environment.stages
            if stage.last_failure is not None
        ]
        below = table(rows, [("",) * 7] * len(rows), style, indent="  ")
        lines.append(below + "".join(failures))
    return "\n".join(lines) + f"this commit: {commit[:7]}\n"


def _failure(found: FailedAttempt) -> str:
    where = f", {found.pipeline_url}" if found.pipeline_url else ""
    told = f"commit {found.commit[:7]}, {age(found.at)} ago{where}"
    return visible(f"the last attempt failed: {found.error} ({told})")


def _status_row(stage: StageStatus) -> tuple[str, ...]:
    return (
        stage.name,
        stage.state,
        (stage.commit or "–")[:7],
        stage.ref or "–",
        age(stage.finished_at),
        "differs" if stage.drift else "same",
        stage.pipeline_url or "–",
    )


def checks(found: Sequence[Check], style: Style = plain) -> str:
    """One line for each check, with its fix at the end."""
    width = max((len(check.name) for check in found), default=0)
    lines = []
    for check in found:
        mark, colour = _VERDICT[check.result]
        fix = f"; fix: {check.fix}" if check.fix else ""
        detail = block(f"{check.detail}{fix}", " " * (width + 4))
        lines.append(f"{style(mark, colour)} {check.name:<{width}}  {detail}\n")
    return "".join(lines)


def block(text: str, indent: str) -> str:
    """Text of several lines, such as a traceback; all but the first are indented."""
    return f"\n{indent}".join(terminal.lines(text))


def age(moment: str | None, now: datetime | None = None) -> str:
    """How long ago an ISO 8601 moment was, in its largest unit: `3 h`."""
    if moment is None:
        return "–"
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"

    # Never negative: the clock of the machine that deployed may be ahead.
    return f"{max(0, int(seconds))} s"


def table(
    rows: Sequence[tuple[str, ...]],
    colours: Sequence[tuple[str, ...]],
    style: Style,
    *,
    right: frozenset[int] = frozenset(),
    give_way: int | None = None,
    indent: str = "",
) -> str:
    """Aligned columns.

    The columns of `right` are aligned to the right. If the terminal is too
    narrow, column `give_way` is cut.
    """
    clean = [tuple(visible(cell) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in clean) for column in range(len(clean[0]))]
    if give_way is not None:
        # 160: the logs of CI services have no width of their own.
        room = shutil.get_terminal_size((160, 24)).columns - sum(widths) - 2 * len(widths)
        widths[give_way] = max(24, widths[give_way] + min(0, room))

    lines = []
    for row, row_colours in zip(clean, colours, strict=True):
        cells = []
        for column, (cell, colour) in enumerate(zip(row, row_colours, strict=True)):
            width = widths[column]
            short = cell if len(cell) <= width else cell[: width - 1] + "…"
            padded = f"{short:>{width}}" if column in right else f"{short:<{width}}"

            # Coloured after padding: escape sequences would count as
            # characters.
            cells.append(style(padded, colour) if colour else padded)
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines) + "\n"


def _below(stage: StagePlan, style: Style) -> list[str]:
    """The lines below a stage of a plan: paths, then steps."""
    if stage.status is Status.UNCHANGED:
        return []
    paths = [path.decode(errors="backslashreplace") for path in stage.paths[:PATHS_SHOWN]]
    lines = [_failure(stage.last_failure)] if stage.last_failure else []
    lines += [style(visible(path), "dim") for path in paths]
    if len(stage.paths) > PATHS_SHOWN:
        lines.append(style(f"… and {len(stage.paths) - PATHS_SHOWN} more", "dim"))
    lines += [f"- {visible(step)}" for step in stage.steps]
    return lines
