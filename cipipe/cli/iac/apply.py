"""`cipipe iac apply`: apply a plan that was saved and approved."""

import click

from cipipe.cli.confirm import confirm as confirm_at_shell
from cipipe.cli.confirm import yes_option
from cipipe.cli.options import Common, common
from cipipe.cli.run import finish
from cipipe.cli.sandboxed import sandboxed
from cipipe.model import Plan
from cipipe.pipeline.approval import applying
from cipipe.pipeline.approval.checks import refuse_environment
from cipipe.report import text


@click.command
@common()
@click.option(
    "--plan", "plan_id", metavar="ID", required=True, help="The saved plan that was approved."
)
@click.option("--allow-rollback", is_flag=True, help="Put older content over a newer pipeline's.")
@yes_option
def apply(shared: Common, plan_id: str, allow_rollback: bool, yes: bool) -> int:
    """Apply a plan that `cipipe iac plan --save` saved: exactly that one, once."""
    session = shared.session()
    refuse_environment(plan_id, session.environment_name)
    confirm_at_shell(shared, session, yes=yes)

    def planned(plan: Plan) -> None:
        shared.console.say(text.plan(plan, shared.console.styled_stderr))

    with sandboxed(shared, session) as session:
        outcome = applying.apply(session, plan_id, allow_rollback=allow_rollback, planned=planned)
    return finish(shared, outcome)
