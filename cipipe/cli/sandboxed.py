"""`--sandbox`: the sandbox around a command, with its account bootstrapped."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cipipe.cli.options import Common
from cipipe.errors import StageError, UsageError
from cipipe.pipeline.project import Project
from cipipe.pipeline.session import Session
from cipipe.tools.own_folder import own_folder

if TYPE_CHECKING:
    from cipipe.sandbox import SandboxOptions
    from cipipe.sandbox.client import Sandbox


@contextlib.contextmanager
def sandboxed(shared: Common, session: Session, *, bootstrap: bool = True) -> Iterator[Session]:
    """The session with the sandbox as its AWS target; as it is where
    --sandbox was not passed.

    A sandbox that is running already is used. One that this call starts is
    stopped afterwards, whatever happens.
    """
    if not shared.sandbox:
        yield session
        return
    from cipipe.sandbox import client, needs

    project = session.project
    known = {**needs.missing(project.env), **without_docker(project)}
    _warn(shared, project, known)
    with contextlib.ExitStack() as stack:
        # One that `cipipe sandbox up` left running, or another command is
        # using.
        running = client.find(folder_of(project))
        if running is None:
            if bootstrap and "terraform" in known:
                raise _no_terraform()
            session.say("starting a sandbox: AWS services, OIDC issuer, image registry")
            options = options_of(session, attached=True)
            running = stack.enter_context(
                client.attached(options, env=project.env, say=session.say)
            )
        # What only the sandbox could find out, such as an image that cannot
        # be pulled.
        found = running.state.missing
        _warn(shared, project, {tool: how for tool, how in found.items() if tool not in known})
        yield in_sandbox(session, running, bootstrap=bootstrap)


def _no_terraform() -> StageError:
    return StageError(
        "tool-missing",
        "terraform is not installed, and the account of a new sandbox is bootstrapped with it",
        hint="Install it: `cipipe iac install --to FOLDER`, with a folder in PATH.",
    )


def _no_iam() -> UsageError:
    return UsageError(
        "sandbox-iam-not-enforced",
        "CIPIPE_SANDBOX_IAM is `enforce`, but the sandbox that is running was started without it",
        hint="Stop it with `cipipe sandbox down`; the next one enforces IAM.",
    )


def _warn(shared: Common, project: Project, missing: Mapping[str, str]) -> None:
    from cipipe.pipeline.doctor.machine import tools_of

    # Terraform is needed by every sandbox, for the account.
    needed = (tools_of(project) or frozenset()) | {"terraform"}
    for tool, how in missing.items():
        if tool not in needed:
            continue
        shared.console.warning(
            f"{tool} is not available on this machine; stages that need it are skipped ({how})"
        )


def in_sandbox(session: Session, running: "Sandbox", *, bootstrap: bool = True) -> Session:
    """The session with this sandbox as its AWS target, whose account is bootstrapped if need be."""
    from cipipe.pipeline.bootstrap.once import bootstrap_once
    from cipipe.pipeline.identity.sandbox_target import target_of

    name = session.environment_name
    state = running.state
    if wants_iam(session.project) and not state.enforces_iam:
        raise _no_iam()
    target = target_of(session.project, name, running, missing=state.missing)
    session = msgspec.structs.replace(session, target=target)
    if bootstrap:
        marker = folder_of(session.project) / f"bootstrapped-{name}"
        bootstrap_once(
            session, marker=marker, started_at=state.started_at, enforced=state.enforces_iam
        )
    return session


def options_of(session: Session, *, attached: bool) -> "SandboxOptions":
    """How a sandbox is started. An attached one stops with this process."""
    from cipipe.sandbox import SandboxOptions

    project = session.project
    return SandboxOptions(
        directory=folder_of(project),
        account_id=session.environment.account_id,
        attached=attached,
        docker=not without_docker(project),
        enforce_iam=wants_iam(project),
        # Where a private Docker daemon keeps its images; scripts/setup puts
        # the base image there.
        docker_data=own_folder(project.repository.root) / "docker",
    )


def folder_of(project: Project) -> Path:
    """Where the sandbox keeps its state."""
    chosen = project.env.get("CIPIPE_SANDBOX_DIR")
    return Path(chosen or own_folder(project.repository.root) / "sandbox").absolute()


def wants_iam(project: Project) -> bool:
    """Whether somebody wants a sandbox in which roles may only do what their policies allow."""
    return project.env.get("CIPIPE_SANDBOX_IAM") == "enforce"


def without_docker(project: Project) -> dict[str, str]:
    """Docker as a missing tool, where somebody wants a sandbox that starts faster without it."""
    if project.env.get("CIPIPE_SANDBOX_DOCKER") != "off":
        return {}
    return {"docker": "CIPIPE_SANDBOX_DOCKER is off"}
