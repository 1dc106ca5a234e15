"""What drifted, as text and as Markdown."""

from collections.abc import Iterator

from cipipe.report.markdown import code
from cipipe.report.text import plain
from cipipe.results import UNCHECKED, DriftFinding, DriftReport, StageDrift
from cipipe.terminal import Style, visible


def text(report: DriftReport, style: Style = plain) -> str:
    """Each stage with its findings below it."""
    project, environment = style(report.project, "bold"), style(report.environment, "bold")
    lines = [f"{project} → {environment}", ""]
    width = max((len(stage.name) for stage in report.stages), default=0)
    for stage in report.stages:
        findings = _of(report, stage)
        word, colour = _verdict(stage, findings)
        about = f"{style(f'{word:<9}', colour)}  {_deployed(stage)}"
        lines.append(f"  {stage.name:<{width}}  {about}")
        for finding in findings:
            lines += [f"  {'':<{width}}    {line}" for line in _finding(finding, style)]
    return "\n".join([*lines, "", counted(report)]) + "\n"


def markdown(report: DriftReport) -> str:
    """The same as a list, for an issue or a job's summary.

    Names may come from anybody: they are in code spans only.
    """
    title = f"### Drift of {code(report.project)} → {code(report.environment)}"
    parts = [title, f"**{counted(report)}**"]
    for stage in report.stages:
        findings = _of(report, stage)
        word, _ = _verdict(stage, findings)
        lines = [f"- {code(stage.name)}: {word}, {_deployed(stage)}"]
        for finding in findings:
            lines += [
                f"  - **{finding.kind}** {code(finding.what)}",
                f"    - expected: {code(finding.expected)}",
                f"    - actual: {code(finding.actual)}",
                f"    - to do: {code(finding.hint)}",
            ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def counted(report: DriftReport) -> str:
    """How much was found, as a sentence."""
    if not report.stages:
        return "There is no stage to compare."
    number = report.drifted
    drifted = f"{number} thing{'' if number == 1 else 's'} differ{'s' if number == 1 else ''}"
    found = drifted if number else "Nothing that could be compared differs"
    if report.unchecked:
        return f"{found}, {report.unchecked} could not be compared."
    return f"{drifted} from the ledger." if number else "Everything is as the ledger says."


def _of(report: DriftReport, stage: StageDrift) -> list[DriftFinding]:
    return [finding for finding in report.findings if finding.stage == stage.name]


def _verdict(stage: StageDrift, findings: list[DriftFinding]) -> tuple[str, str]:
    if any(finding.kind != UNCHECKED for finding in findings):
        return "drifted", "red"
    if findings:
        return UNCHECKED, "yellow"
    return ("same", "green") if stage.state == "deployed" else ("nothing", "dim")


def _deployed(stage: StageDrift) -> str:
    return f"{stage.state} {stage.commit[:7]}" if stage.commit else stage.state


def _finding(finding: DriftFinding, style: Style) -> Iterator[str]:
    colour = "yellow" if finding.kind == UNCHECKED else "red"
    yield f"{style(finding.kind, colour)}  {visible(finding.what)}"
    yield f"  expected: {visible(finding.expected)}"
    yield f"  actual:   {visible(finding.actual)}"
    yield f"  to do:    {visible(finding.hint)}"
