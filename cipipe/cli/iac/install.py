"""`cipipe iac install`: Terraform itself."""

from pathlib import Path

import click

from cipipe.cli.options import Common, common
from cipipe.report import json
from cipipe.tools.terraform.setup import installing


@click.command
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
