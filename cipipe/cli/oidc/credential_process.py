"""`cipipe oidc credential-process`: credentials for AWS's tools, on
standard output only.

https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
"""

import sys
from pathlib import Path

import click

from cipipe.cli.options import Common, common
from cipipe.errors import UsageError
from cipipe.oidc import agent
from cipipe.oidc.no_token import no_token
from cipipe.redact import Redactor


@click.command("credential-process")
@common(formats=("aws",), sandbox=False)
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Get them from the run that listens there.",
)
def credential_process(shared: Common, socket: Path | None) -> None:
    """Print credentials of the environment's role, for `credential_process` of an AWS profile."""
    # AWS's tools keep its standard error and may show it anywhere: a
    # command of the provider that masks a secret has the secret in it, and
    # would be a leak.
    shared.console.redactor = Redactor()
    if shared.output is not None:
        raise UsageError("usage", "credentials are not written into files", where="--output")
    found = agent.ask(socket) if socket else _exchanged(shared)
    try:
        sys.stdout.write(found)
        sys.stdout.flush()
    except OSError as error:
        message = f"the credentials cannot be written: {error.strerror}"
        raise UsageError("usage", message, where="standard output") from error


def _exchanged(shared: Common) -> str:
    session = shared.session()
    found = session.role_session(session.project.context.mode)
    if found is None:
        raise no_token(
            "there is no ID token to exchange",
            hint="A shell has none, and a person's own credentials are not passed on: the profile "
            "that calls this command would wait for itself.",
        )
    return agent.document(found.current())
