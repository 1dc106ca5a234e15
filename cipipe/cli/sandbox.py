"""`cipipe sandbox`: keep a sandbox running between commands."""

import shlex

import click

from cipipe.cli.lazy import Group
from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import bootstrap_once, data_root, folder_of, target_of, without_docker
from cipipe.errors import UsageError
from cipipe.pipeline.project import Project
from cipipe.report import json
from cipipe.sandbox import SandboxOptions, client


@click.group(cls=Group)
def sandbox() -> None:
    """AWS services, an OIDC issuer and an image registry on this machine."""


@sandbox.command
@common(sandbox=False)
def up(shared: Common) -> None:
    """Start a sandbox and leave it running. `cipipe run --sandbox` then uses it."""
    project = shared.project()
    name = project.environment_name(shared.environment)
    running = client.up(
        SandboxOptions(
            directory=folder_of(project),
            account_id=project.config.environment(name).account_id,
            attached=False,
            docker=not without_docker(project),
            docker_data=data_root(project),
        ),
        env=project.env,
        say=shared.console.say,
    )
    bootstrap_once(shared, project, name, running, target_of(project, name, running))
    _show(shared, project, name, running)


@sandbox.command
@common(sandbox=False)
def env(shared: Common) -> None:
    """Print the variables that point AWS tools at the sandbox: eval "$(cipipe sandbox env)"."""
    project = shared.project()
    name = project.environment_name(shared.environment)
    running = client.find(folder_of(project))
    if running is None:
        raise UsageError(
            "sandbox-not-running", "no sandbox is running", hint="Start it: cipipe sandbox up"
        )
    _show(shared, project, name, running)


@sandbox.command
@common(sandbox=False)
def down(shared: Common) -> None:
    """Stop the sandbox, and all that it started."""
    stopped = client.down(folder_of(shared.project()))
    if shared.format == "json":
        shared.answer(json.document(stopped=stopped))
    else:
        shared.answer("the sandbox has ended\n" if stopped else "no sandbox was running\n")


def _show(shared: Common, project: Project, name: str, running: client.Sandbox) -> None:
    environment = project.config.environment(name)
    variables = {
        **running.child_env(),
        **running.admin_of(environment.account_id).environment(),
        "AWS_REGION": environment.region,
        "AWS_DEFAULT_REGION": environment.region,
    }
    if shared.format == "json":
        shared.answer(json.document(environment=variables))
    else:
        shared.answer(
            "".join(
                f"export {key}={shlex.quote(value)}\n" for key, value in sorted(variables.items())
            )
        )
