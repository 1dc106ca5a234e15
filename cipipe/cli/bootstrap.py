"""`cipipe bootstrap`."""

from collections.abc import Sequence

import click
import msgspec

from cipipe.cli.confirm import can_ask
from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.errors import RefusedError
from cipipe.pipeline.bootstrap import account as use_case
from cipipe.pipeline.bootstrap import permissions
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

        granted = permissions.by_stage(session.project.config, session.environment_name)
        if not session.sandbox:
            _show_permissions(session, granted)
        outputs = use_case.bootstrap(session, agree)
    if shared.format == "json":
        document = json.document(
            environment=session.environment_name,
            outputs=outputs,
            permissions=[msgspec.to_builtins(one) for one in granted],
        )
        shared.answer(document)
        return
    known = {key: value for key, value in sorted(outputs.items()) if value is not None}
    shared.answer("".join(f"{key} = {value}\n" for key, value in known.items()))


def _show_permissions(session: Session, granted: Sequence[permissions.StagePermissions]) -> None:
    session.say("what the roles may do, by stage:")
    for one in granted:
        places = f" ({', '.join(one.places)})" if one.places else ""
        session.say(f"  {one.stage}{places}")
        session.say(f"    deploy: {one.deploy}")
        session.say(f"    verify: {one.verify}")
    for key in ("deploy_policies", "verify_policies"):
        policies = getattr(session.project.config.bootstrap, key)
        if policies:
            session.say(f"  and [bootstrap] {key}: {', '.join(policies)}")


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
