"""The one place that makes a client of Terraform: for a stage, `iac unlock`
and `bootstrap`.

What a client needs of the command it works for is in `CommandContext`, so
that the command that releases a lock is complete wherever a lock is found.
"""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cipipe.interrupt import Interrupt
from cipipe.model import Environment
from cipipe.redact import Redactor
from cipipe.tools.own_folder import own_folder
from cipipe.tools.terraform.backend import Backend, Value, refuse_workspace_variable

if TYPE_CHECKING:
    from cipipe.tools.terraform.client import Terraform

Login = Callable[[str], Mapping[str, str]]
"""Returns the variables that authenticate this job at an HTTP store of states, by its address."""


def no_login(address: str) -> Mapping[str, str]:
    """For a job without credentials for any store."""
    return {}


class CommandContext(msgspec.Struct, frozen=True, kw_only=True):
    """What every Terraform client of one command has in common."""

    # The top folder of the repository.
    top: Path
    environment_name: str
    # The whole environment of Terraform's processes.
    env: Mapping[str, str]
    redactor: Redactor
    line: Callable[[str], None]
    # The options that a further command has to repeat, such as --config and
    # --sandbox.
    command_options: tuple[str, ...]
    interrupt: Interrupt = msgspec.field(default_factory=Interrupt)
    login: Login = no_login


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """A Terraform root and where its state is."""

    folder: Path
    # The root as messages name it.
    shown: str
    # The stage that the state belongs to; None for the state of the
    # bootstrap.
    stage: str | None
    backend: Backend


def client(root: Root, command: CommandContext) -> "Terraform":
    """Terraform in a root, for a command.

    Raises UsageError where TF_WORKSPACE contradicts the workspace of the
    settings.
    """
    from cipipe.tools.terraform.client import Terraform
    from cipipe.tools.terraform.commands import Commands

    backend = root.backend
    refuse_workspace_variable(command.env, backend.workspace)
    env = dict(command.env)
    if backend.type == "http":
        address = backend.settings.get("address") or env.get("TF_HTTP_ADDRESS", "")
        login = command.login(str(address))
        command.redactor.register(login.get("TF_HTTP_PASSWORD", ""))
        env |= login

    commands = Commands(
        root=root.folder,
        data_dir=_data_dir(root, command),
        env=env,
        redactor=command.redactor,
        line=command.line,
        unlock_command=unlock_command(root, command),
        interrupt=command.interrupt,
        backend=backend,
        shown=root.shown,
    )
    return Terraform(commands)


def backend(
    kind: str,
    settings: Mapping[str, Value],
    environment: Environment,
    *,
    workspace: str | None = None,
    sandbox: bool,
) -> Backend:
    """A backend of that type. S3's region is the environment's, unless the settings name one."""
    given = dict(settings)
    if kind == "s3":
        given = {"region": environment.region, **given}
        if sandbox:
            # The sandbox's endpoint is an address without a host name to
            # put the bucket in.
            given["use_path_style"] = True
    return Backend(kind, given, workspace)


def unlock_command(root: Root, command: CommandContext) -> str:
    """The command that releases a lock on the state, but for the lock's ID, ready to be pasted."""
    which = ("--bootstrap",) if root.stage is None else ("--stage", root.stage)
    words = ("cipipe", "iac", "unlock", "--env", command.environment_name, *which)
    return shlex.join([*words, *command.command_options])


def _data_dir(root: Root, command: CommandContext) -> Path:
    """Terraform's own folder, one for each state of each environment."""
    state = root.stage or "bootstrap"
    return own_folder(command.top) / "terraform" / command.environment_name / state
