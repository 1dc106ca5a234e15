"""`cipipe bootstrap`."""

from collections.abc import Sequence

import click

from cipipe.cli.confirm import can_ask
from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.errors import RefusedError
from cipipe.pipeline.bootstrap import account as use_case
from cipipe.pipeline.session import Session
from cipipe.report import json


@click.command
@click.option("-y", "--yes", is_flag=True, help="Do not ask before something is changed.")
@common()
def bootstrap(shared: Common, *, yes: bool) -> None:
    """Create what an account needs before its first pipeline: bucket, OIDC
    providers, roles.

    Shows what it would change, and asks. Safe to repeat.
    """
    with sandboxed(shared, shared.session(), bootstrap=False) as session:

        def agree(what: str, lines: Sequence[str]) -> None:
            _agree(session, what, lines, yes=yes or session.sandbox)

        outputs = use_case.bootstrap(session, agree)
    if shared.format == "json":
        shared.answer(json.document(environment=session.environment_name, outputs=outputs))
        return
    known = {key: value for key, value in sorted(outputs.items()) if value is not None}
    shared.answer("".join(f"{key} = {value}\n" for key, value in known.items()))


def _agree(session: Session, what: str, lines: Sequence[str], *, yes: bool) -> None:
    """Show what would be done, and ask. Raises RefusedError."""
    name = session.environment_name
    account = session.environment.account_id
    session.say(f"in account {account} ({name}), {what}:")
    for line in lines:
        session.say(f"  {line}")
    if yes:
        return
    asks = can_ask()
    if asks and click.confirm("Do that?", err=True):
        return
    raise RefusedError(
        "bootstrap-not-confirmed",
        f"nothing was done to {what}: "
        + ("you did not agree" if asks else "nobody can be asked here"),
        hint="Pass --yes to bootstrap without being asked.",
        where=f"environments.{name}",
    )
