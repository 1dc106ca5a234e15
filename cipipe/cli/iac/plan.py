"""`cipipe iac plan`: what a `terraform` stage would change."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cipipe.approvals import ID_VARIABLE, MOST_HOURS, VALID_HOURS, SavedPlan
from cipipe.cli.confirm import confirm as confirm_at_shell
from cipipe.cli.confirm import yes_option
from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.errors import CipipeError, UsageError
from cipipe.pipeline.approval import saving
from cipipe.pipeline.infrastructure import changes as infrastructure
from cipipe.pipeline.planning.stage_lookup import stage_of_kind
from cipipe.report import changes as report
from cipipe.report import json
from cipipe.stages.terraform import NAME

if TYPE_CHECKING:
    from cipipe.pipeline.approval.saving import SavedChanges
    from cipipe.pipeline.infrastructure.changes import PlannedChanges

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
@click.option("--save", is_flag=True, help="Keep the plan until it is approved and applied.")
@click.option("--if-due", is_flag=True, help="With --save: only if a run would run the stage.")
@click.option(
    "--id-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=f"With --save: append the line {ID_VARIABLE}=ID to FILE, or {ID_VARIABLE}=none.",
)
@click.option(
    "--valid-hours",
    type=click.IntRange(1, MOST_HOURS),
    default=VALID_HOURS,
    show_default=True,
    help="With --save: how long the plan may be applied.",
)
@click.option(
    "--allow-replace",
    is_flag=True,
    help="With --save: the plan may delete or replace resources that hold data.",
)
@click.option(
    "--allow-rollback",
    is_flag=True,
    help="With --save: the plan may put older content over a newer pipeline's.",
)
@yes_option
def plan(shared: Common, stage: str | None, detailed_exitcode: bool, **options: Any) -> int:
    """Show what the stage would change in AWS, due or not. Applies nothing.

    Without --save, it locks nothing either, and the verify role is enough.
    """
    saved = _options(**options)
    try:
        planned = _saved(shared, stage, saved) if saved.save else _planned(shared, stage)
        shared.answer(_rendered(shared, planned), json=shared.format == "gitlab")
    except CipipeError as error:
        if not detailed_exitcode:
            raise
        shared.console.error(error)
        return _FAILED
    changes = planned.changes
    return _CHANGES if detailed_exitcode and changes is not None and not changes.empty else 0


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says of saving the plan."""

    save: bool
    id_file: Path | None
    yes: bool
    how: saving.Saving


def _options(
    *, save: bool, id_file: Path | None, valid_hours: int, yes: bool, **flags: bool
) -> _Options:
    how = saving.Saving(hours=valid_hours, **flags)
    if not save and (id_file is not None or how != saving.Saving()):
        raise UsageError(
            "usage", "these options are for plans that are saved", hint="Pass --save, too."
        )
    return _Options(save=save, id_file=id_file, yes=yes, how=how)


def _planned(shared: Common, stage: str | None) -> "PlannedChanges":
    session = shared.session()
    name = stage_of_kind(session.project.config, NAME, stage)
    with sandboxed(shared, session) as session:
        return infrastructure.plan_changes(session, name)


def _saved(shared: Common, stage: str | None, options: _Options) -> "SavedChanges":
    session = shared.session()
    name = stage_of_kind(session.project.config, NAME, stage)
    confirm_at_shell(shared, session, yes=options.yes)
    with sandboxed(shared, session) as session:
        found = saving.save(session, name, options.how)
    if options.id_file is not None:
        line = f"{ID_VARIABLE}={found.plan.id if found.plan else 'none'}\n"
        try:
            with options.id_file.open("a") as file:
                file.write(line)
        except OSError as error:
            raise UsageError(
                "usage",
                f"{options.id_file} cannot be written: {error.strerror}",
                where="--id-file",
            ) from error
    return found


def _rendered(shared: Common, planned: "PlannedChanges | SavedChanges") -> str:
    changes = planned.changes
    saved = planned.plan if isinstance(planned, saving.SavedChanges) else None
    if shared.format == "json":
        return json.document(
            stage=planned.stage,
            environment=planned.environment,
            commit=planned.commit,
            changes=changes.public() if changes is not None else None,
            **({"saved": saved} if saved is not None else {}),
        )
    if changes is None:
        return f"stage {planned.stage} is not due: nothing to approve\n"
    if shared.format == "gitlab":
        return report.gitlab(changes)
    if shared.format == "markdown":
        text = report.markdown(changes, stage=planned.stage, environment=planned.environment)
        return f"{text}\nSaved as `{saved.id}`, {_valid(saved)}.\n" if saved else text
    text = report.text(changes, shared.style)
    if saved is None:
        return text
    project = shared.project()
    options = project.command_options(sandbox=shared.sandbox)
    command = shlex.join(
        ["cipipe", "iac", "apply", "--env", planned.environment, *options, "--plan", saved.id]
    )
    return f"{text}\nSaved, {_valid(saved)}. Once it is approved:\n  {command}\n"


def _valid(saved: SavedPlan) -> str:
    return f"valid until {saved.expires_at[:16].replace('T', ' ')} UTC"
