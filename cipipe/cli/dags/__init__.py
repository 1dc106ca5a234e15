"""`cipipe dags`: the parts of the `dags` stage, each on its own."""

import click

from cipipe.cli.lazy import Lazy

# Each module is imported when its command is called: `patch` needs neither
# boto3 nor git.
COMMANDS = {
    "check": "cipipe.cli.dags.check:check",
    "deploy": "cipipe.cli.dags.bucket:deploy",
    "diff": "cipipe.cli.dags.bucket:diff",
    "patch": "cipipe.cli.dags.patch:patch",
    "rollback": "cipipe.cli.dags.bucket:rollback",
    "status": "cipipe.cli.dags.bucket:status",
}


@click.group(cls=Lazy, where=COMMANDS)
def dags() -> None:
    """The parts of the `dags` stage, each on its own."""
