"""`cipipe oidc`: identity, from a job's token to AWS. One module per command."""

import click

from cipipe.cli.lazy import Lazy

COMMANDS = {
    "credential-process": "cipipe.cli.oidc.credential_process:credential_process",
    "explain": "cipipe.cli.oidc.explain:explain",
    "token": "cipipe.cli.oidc.token:token",
    "trust-policy": "cipipe.cli.oidc.trust_policy:trust_policy",
}


@click.group(cls=Lazy, where=COMMANDS)
def oidc() -> None:
    """Show a token's claims, explain a denial, write the trust policy, feed AWS tools."""
