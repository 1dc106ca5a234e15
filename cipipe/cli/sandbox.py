"""`cipipe sandbox`: keep a sandbox running between commands."""

import shlex

import click

from cipipe.cli.lazy import Group
from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import folder_of, in_sandbox, options_of
from cipipe.errors import UsageError
from cipipe.pipeline.session import Session
from cipipe.report import json
from cipipe.sandbox import client


@click.group(cls=Group)
def sandbox() -> None:
    """AWS services, an OIDC issuer and an image registry on this machine."""


@sandbox.command
@common(sandbox=False)
def up(shared: Common) -> None:
    """Start a sandbox and leave it running. `cipipe run --sandbox` then uses it."""
    session = shared.session()
    options = options_of(session, attached=False)
    running = client.up(options, env=session.project.env, say=session.say)
    in_sandbox(session, running)
    _show(shared, session, running)


@sandbox.command
@common(sandbox=False)
def env(shared: Common) -> None:
    """Print the variables that point AWS tools at the sandbox: eval "$(cipipe sandbox env)"."""
    session = shared.session()
    running = client.find(folder_of(session.project))
    if running is None:
        raise UsageError(
            "sandbox-not-running", "no sandbox is running", hint="Start it: cipipe sandbox up"
        )
    _show(shared, session, running)


@sandbox.command
@common(sandbox=False)
def down(shared: Common) -> None:
    """Stop the sandbox and everything that it started."""
    stopped = client.down(folder_of(shared.project()))
    if shared.format == "json":
        shared.answer(json.document(stopped=stopped))
    else:
        shared.answer("the sandbox was stopped\n" if stopped else "no sandbox was running\n")


def _show(shared: Common, session: Session, running: client.Sandbox) -> None:
    environment = session.environment
    variables = {
        **running.child_env(),
        **running.admin_of(environment.account_id).environment(),
        "AWS_REGION": environment.region,
        "AWS_DEFAULT_REGION": environment.region,
    }
    if shared.format == "json":
        shared.answer(json.document(environment=variables))
        return
    exports = [f"export {key}={shlex.quote(value)}\n" for key, value in sorted(variables.items())]
    shared.answer("".join(exports))
