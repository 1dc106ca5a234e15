"""What Terraform would change, as text, as Markdown, and as GitLab's report."""

import json

from cipipe.report.markdown import LIMIT, code, fenced, folded
from cipipe.stages.terraform.changes import text as lines_of
from cipipe.stages.terraform.changes.model import ChangeSet
from cipipe.terminal import Style, unstyled

# Resources of one consequence that are listed, until everything fits.
_LISTED = (1000, 100, 20, 0)

_CUT = "_Cut to fit into a comment: `cipipe iac plan` shows everything._"


def text(changes: ChangeSet, style: Style = unstyled) -> str:
    """The changes by consequence, and a summary as the last line."""
    lines = list(lines_of.lines(changes, style))
    if not changes.empty:
        lines += ["", f"{lines_of.summary(changes)}."]
    return "\n".join(lines) + "\n"


def markdown(changes: ChangeSet, *, stage: str, environment: str, limit: int = LIMIT) -> str:
    """The changes in at most `limit` characters: a summary, and each consequence folded.

    What is gone afterwards is not folded.
    """
    head = f"### Terraform: {code(stage)} → {code(environment)}"
    facts = f"**{lines_of.summary(changes)}**"
    if changes.errored or not changes.complete:
        facts += " (the plan is not complete)"
    for listed in _LISTED:
        parts = [head, facts, *_groups(changes, listed)]
        made = "\n\n".join(parts if listed == _LISTED[0] else [*parts, _CUT]) + "\n"
        if len(made) <= limit:
            return made
    return f"{head}\n\n{facts}\n\n{_CUT}\n"


def gitlab(changes: ChangeSet) -> str:
    """GitLab's `terraform` report, for `artifacts:reports:terraform`.

    A replacement counts as a creation and a deletion.
    docs.gitlab.com/ci/yaml/artifacts_reports
    """
    counts = changes.counts()
    report = {
        "create": counts["create"] + counts["replace"],
        "update": counts["update"],
        "delete": counts["delete"] + counts["replace"],
    }
    return json.dumps(report) + "\n"


def _groups(changes: ChangeSet, listed: int) -> list[str]:
    parts = []
    for group in lines_of.CONSEQUENCES:
        entries = group.of(changes.resources)
        if not entries:
            continue
        shown = [line for entry in entries[:listed] for line in lines_of.resource(entry, group)]
        if len(entries) > listed:
            shown.append(f"… and {len(entries) - listed} more")
        title = f"{group.title} ({len(entries)})"
        if group.destroys:
            parts += [f"**{title}**", fenced(shown)]
        else:
            parts.append(folded(title, fenced(shown)))
    if changes.outputs:
        shown = [lines_of.output(entry) for entry in changes.outputs[:listed]]
        parts.append(folded(f"Outputs ({len(changes.outputs)})", fenced(shown)))
    if changes.drift:
        title = f"Changed outside of Terraform ({len(changes.drift)})"
        drifted = [line for entry in changes.drift[:listed] for line in lines_of.drifted(entry)]
        parts.append(folded(title, fenced(drifted)))
    return parts
