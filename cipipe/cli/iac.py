"""`cipipe iac`: what people do with a `terraform` stage outside of a run."""

from pathlib import Path

import click

from cipipe.cli.lazy import Group
from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.pipeline import unlocking
from cipipe.pipeline.bootstrap import account
from cipipe.report import json
from cipipe.tools.terraform import installing


@click.group(cls=Group)
def iac() -> None:
    """Work with the `terraform` stage on its own."""


@iac.command
@common(sandbox=False)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    required=True,
    help="Where to put the program.",
)
def install(shared: Common, folder: Path) -> None:
    """Install Terraform, in the version that cipipe is tested with.

    It comes from releases.hashicorp.com, or from the server that TERRAFORM_MIRROR names, and is
    installed only with the right checksum.
    """
    made = installing.install(folder, shared.console.env)
    if shared.format == "json":
        shared.answer(json.document(version=installing.VERSION, path=str(made)))
    else:
        shared.answer(f"installed Terraform {installing.VERSION} as {made}\n")


@iac.command
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
