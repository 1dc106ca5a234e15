"""`cipipe iac unlock`: the lock that a killed run left on a state."""

import click

from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.pipeline.bootstrap import account
from cipipe.pipeline.infrastructure import unlocking
from cipipe.report import json


@click.command
@common()
@click.option("--stage", metavar="STAGE", help="Which terraform stage, where there are several.")
@click.option(
    "--bootstrap", is_flag=True, help="The lock of the bootstrap's state, not of a stage's."
)
@click.argument("lock_id")
def unlock(shared: Common, stage: str | None, bootstrap: bool, lock_id: str) -> None:
    """Release the state lock LOCK_ID that a killed run left.

    Make sure first that nobody is using the state.
    """
    with sandboxed(shared, shared.session(), bootstrap=False) as session:
        if bootstrap:
            account.unlock(session, lock_id=lock_id)
        else:
            unlocking.unlock(session, stage=stage, lock_id=lock_id)
    if shared.format == "json":
        shared.answer(json.document(released=lock_id))
    else:
        shared.answer(f"released {lock_id}\n")
