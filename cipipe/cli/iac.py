"""`cipipe iac`: the parts of the `terraform` stage."""

import click

from cipipe.cli.lazy import Group
from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.pipeline import unlocking as use_case
from cipipe.pipeline.bootstrap import account as use_bootstrap
from cipipe.report import json


@click.group(cls=Group)
def iac() -> None:
    """The parts of the `terraform` stage, each on its own."""


@iac.command
@common()
@click.option("--stage", metavar="STAGE", help="Which terraform stage, where there are several.")
@click.option(
    "--bootstrap", is_flag=True, help="The lock of the bootstrap's state, not of a stage's."
)
@click.argument("lock_id")
def unlock(shared: Common, stage: str | None, bootstrap: bool, lock_id: str) -> None:
    """Release the state lock LOCK_ID that a killed run left. Make sure first that nobody holds it."""
    project = shared.project()
    name = project.environment_name(shared.environment)
    redactor, line = shared.console.redactor, shared.console.say
    with sandboxed(shared, project, name, bootstrap=False) as target:
        if bootstrap:
            use_bootstrap.unlock(
                project, name, lock_id, redactor=redactor, line=line, target=target
            )
        else:
            use_case.unlock(
                project, name, stage, lock_id, redactor=redactor, line=line, target=target
            )
    shared.answer(
        json.document(released=lock_id) if shared.format == "json" else f"released {lock_id}\n"
    )
