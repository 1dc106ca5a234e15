"""`cipipe sandbox`: keep a sandbox running between commands."""

import shlex
from collections.abc import Mapping
from typing import Any

import click

from cipipe import ci
from cipipe.cli.lazy import Group
from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import folder_of, in_sandbox, options_of
from cipipe.errors import UsageError
from cipipe.pipeline.identity.sandbox_job import PlayedJob, job_variables
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
    _show(shared, session, _running(session))


@sandbox.command
@common(sandbox=False)
@click.option(
    "--provider",
    type=click.Choice([name for name, found in ci.PROVIDERS.items() if found.IDENTITY]),
    help="Whose job it is. Default: the first one in [oidc].",
)
@click.option("--branch", metavar="NAME", help="Its branch. Default: the one that is checked out.")
@click.option("--tag", metavar="NAME", help="Its tag, instead of a branch.")
@click.option(
    "--event",
    type=click.Choice(["push", "merge-request", "schedule", "manual"]),
    default="push",
    show_default=True,
    help="What started it.",
)
@click.option("--job-environment", metavar="NAME", help="The provider's environment that it names.")
def token(shared: Common, *, job_environment: str | None, **chosen: Any) -> None:
    """Print the variables with which a job gets its ID token, for runners on this machine."""
    session = shared.session()
    job = PlayedJob(environment=job_environment, **chosen)
    _export(shared, job_variables(session.project, _running(session), job))


@sandbox.command
@common(sandbox=False)
def down(shared: Common) -> None:
    """Stop the sandbox and everything that it started."""
    stopped = client.down(folder_of(shared.project()))
    if shared.format == "json":
        shared.answer(json.document(stopped=stopped))
    else:
        shared.answer("the sandbox was stopped\n" if stopped else "no sandbox was running\n")


def _running(session: Session) -> client.Sandbox:
    running = client.find(folder_of(session.project))
    if running is None:
        raise UsageError(
            "sandbox-not-running", "no sandbox is running", hint="Start it: cipipe sandbox up"
        )
    return running


def _show(shared: Common, session: Session, running: client.Sandbox) -> None:
    environment = session.environment
    variables = {
        **running.child_env(),
        **running.admin_of(environment.account_id).environment(),
        "AWS_REGION": environment.region,
        "AWS_DEFAULT_REGION": environment.region,
    }
    _export(shared, variables)


def _export(shared: Common, variables: Mapping[str, str]) -> None:
    if shared.format == "json":
        shared.answer(json.document(environment=variables))
        return
    exports = [f"export {key}={shlex.quote(value)}\n" for key, value in sorted(variables.items())]
    shared.answer("".join(exports))
