"""`cipipe iac`: the parts of the `terraform` stage."""

import click

from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.pipeline import terraform as use_case


@click.group
def iac() -> None:
    """The parts of the `terraform` stage, each on its own."""


@iac.command
@common()
@click.option("--stage", metavar="STAGE", help="Which terraform stage, where there are several.")
@click.argument("lock_id")
def unlock(shared: Common, stage: str | None, lock_id: str) -> None:
    """Release the state lock LOCK_ID that a killed run left. Make sure first that nobody holds it."""
    project = shared.project()
    name = project.environment_name(shared.environment)
    with sandboxed(shared, project, name) as door:
        use_case.unlock(
            project, name, stage, lock_id, redactor=shared.console.redactor, line=shared.console.say, door=door
        )
