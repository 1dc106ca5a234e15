"""`cipipe dags`: the parts of the `dags` stage, each on its own."""

import click

from cipipe.cli.lazy import Lazy

COMMANDS = {
    "deploy": "cipipe.cli.dags_bucket:deploy",
    "diff": "cipipe.cli.dags_bucket:diff",
    "patch": "cipipe.cli.dags_patch:patch",
    "rollback": "cipipe.cli.dags_bucket:rollback",
    "status": "cipipe.cli.dags_bucket:status",
}


@click.group(cls=Lazy, where=COMMANDS)
def dags() -> None:
    """The parts of the `dags` stage, each on its own."""
