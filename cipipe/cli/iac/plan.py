"""`cipipe iac plan`: what a `terraform` stage would change."""

from typing import TYPE_CHECKING

import click

from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.errors import CipipeError
from cipipe.pipeline import infrastructure
from cipipe.pipeline.planning.stage_lookup import stage_of_kind
from cipipe.report import changes as report
from cipipe.report import json
from cipipe.stages.terraform import NAME

if TYPE_CHECKING:
    from cipipe.pipeline.infrastructure import PlannedChanges

FORMATS = ("text", "json", "markdown", "gitlab")

# As `terraform plan -detailed-exitcode` has them.
_FAILED = 1
_CHANGES = 2


@click.command
@common(formats=FORMATS)
@click.option("--stage", metavar="STAGE", help="Which terraform stage, where there are several.")
@click.option(
    "--detailed-exitcode",
    is_flag=True,
    help="Exit with 0 for no changes, 2 for changes, 1 for any error, as terraform plan does.",
)
def plan(shared: Common, stage: str | None, detailed_exitcode: bool) -> int:
    """Show what the stage would change in AWS, due or not. Applies nothing and locks nothing."""
    try:
        planned = _planned(shared, stage)
        shared.answer(_rendered(shared, planned), json=shared.format == "gitlab")
    except CipipeError as error:
        if not detailed_exitcode:
            raise
        shared.console.error(error)
        return _FAILED
    return _CHANGES if detailed_exitcode and not planned.changes.empty else 0


def _planned(shared: Common, stage: str | None) -> "PlannedChanges":
    session = shared.session()
    name = stage_of_kind(session.project.config, NAME, stage)
    with sandboxed(shared, session) as session:
        return infrastructure.plan_changes(session, name)


def _rendered(shared: Common, planned: "PlannedChanges") -> str:
    if shared.format == "json":
        return json.document(
            stage=planned.stage,
            environment=planned.environment,
            commit=planned.commit,
            changes=planned.changes.public(),
        )
    if shared.format == "gitlab":
        return report.gitlab(planned.changes)
    if shared.format == "markdown":
        return report.markdown(
            planned.changes, stage=planned.stage, environment=planned.environment
        )
    return report.text(planned.changes, shared.style)
