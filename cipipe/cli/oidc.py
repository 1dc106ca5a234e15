"""`cipipe oidc`: identity, from a job's token to AWS."""

import click

from cipipe.cli.lazy import Lazy


@click.group(cls=Lazy, where={"credential-process": "cipipe.cli.credential_process:credential_process"})
def oidc() -> None:
    """Show a token's claims, explain a denial, write the trust policy, feed AWS tools."""
