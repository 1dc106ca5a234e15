"""`cipipe iac`: the parts of the `terraform` stage, each on its own."""

import click

from cipipe.cli.lazy import Lazy

COMMANDS = {
    "apply": "cipipe.cli.iac.apply:apply",
    "install": "cipipe.cli.iac.install:install",
    "plan": "cipipe.cli.iac.plan:plan",
    "push-state": "cipipe.cli.iac.push_state:push_state",
    "unlock": "cipipe.cli.iac.unlock:unlock",
}


@click.group(cls=Lazy, where=COMMANDS)
def iac() -> None:
    """The parts of the `terraform` stage, each on its own."""
