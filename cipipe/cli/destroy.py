"""`cipipe destroy`."""

import click

from cipipe.cli.confirm import confirm as confirm_at_shell
from cipipe.cli.confirm import yes_option
from cipipe.cli.options import Common, common
from cipipe.cli.run import finish
from cipipe.cli.sandboxed import sandboxed
from cipipe.errors import UsageError
from cipipe.pipeline import destroying
from cipipe.pipeline.checks.refusals import refuse_destroy
from cipipe.pipeline.destroying import DestroyOptions
from cipipe.report import losses
from cipipe.results import Report


@click.command
@common()
@click.option("--confirm", metavar="NAME", help="The environment's name, once more.")
@click.option("--allow-destroy", is_flag=True, help="Needed where the environment is protected.")
@click.option("--dry-run", is_flag=True, help="Only show what is lost, and what is in the way.")
@click.option(
    "--empty",
    is_flag=True,
    help="Delete what no stage owns, too, in buckets and repositories of the Terraform state.",
)
@yes_option
def destroy(
    shared: Common,
    confirm: str | None,
    allow_destroy: bool,
    dry_run: bool,
    empty: bool,
    yes: bool,
) -> int:
    """Destroy an environment, in reverse order. The ledger records that it was destroyed."""
    session = shared.session()
    # The default environment is not destroyed because somebody forgot to
    # name another one.
    if shared.environment is None:
        raise UsageError(
            "destroy-no-environment",
            "destroy needs the environment's name",
            hint="Pass --env NAME.",
        )
    refuse_destroy(session, confirm, allow_destroy=allow_destroy, dry_run=dry_run)
    if not dry_run:
        confirm_at_shell(shared, session, yes=yes, named=True)
    options = DestroyOptions(
        confirm=confirm, allow_destroy=allow_destroy, empty=empty, dry_run=dry_run
    )

    def inspected(report: Report) -> None:
        shared.console.say("\n" + losses.losses(report, shared.console.styled_stderr))

    with sandboxed(shared, session) as session:
        outcome = destroying.destroy(session, options, inspected=inspected)
    if not dry_run or shared.format == "json":
        return finish(shared, outcome)

    shared.answer(losses.losses(outcome.report, shared.style))
    if outcome.error is None:
        return 0
    shared.console.error(outcome.error)
    return outcome.error.exit_status
