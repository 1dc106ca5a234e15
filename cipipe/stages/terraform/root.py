"""The one place that makes a client of Terraform: for a stage, `iac unlock`
and `bootstrap`.

What a client needs of the command it works for is in `CommandContext`, so
that the command that releases a lock is complete wherever a lock is found.
"""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from cipipe.errors import RefusedError
from cipipe.interrupt import Interrupt
from cipipe.model import Environment
from cipipe.redact import Redactor
from cipipe.tools.own_folder import own_folder
from cipipe.tools.terraform.backend import Backend, Value, refuse_workspace_variable

if TYPE_CHECKING:
    from cipipe.stages.context import StageContext
    from cipipe.tools.terraform.client import Terraform

STATES_VARIABLE = "CIPIPE_SANDBOX_STATES"
"""What a sandbox tells its processes: where its store of states is."""

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
    # How long to wait for a state lock that another has.
    lock_timeout: str = "0s"
    # What runs it: `terraform` or `tofu`.
    program: str = "terraform"
    # Where providers are kept for other roots and jobs.
    plugin_cache: Path | None = None


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
    states = env.get(STATES_VARIABLE)
    if states:
        backend = _in_sandbox(root, states, env.get("TF_HTTP_ADDRESS"))
        env = {name: value for name, value in env.items() if not name.startswith("TF_HTTP_")}
    elif backend.type == "http":
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
        lock_timeout=root.lock_timeout,
        program=root.program,
        plugin_cache=root.plugin_cache,
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


def _in_sandbox(root: Root, states: str, address: str | None) -> Backend:
    """The backend of a root in the sandbox, which has S3 and a store of states over HTTP.

    Raises RefusedError for any other: a run in a sandbox would change the real state.
    """
    backend = root.backend
    if backend.type == "s3":
        return backend
    if backend.type != "http":
        raise RefusedError(
            "sandbox-foreign-state",
            f"the state of {root.shown} is in the backend {backend.type}, which a sandbox does not "
            "have: its real state would be changed",
            hint="Run other stages by their names, or keep the state in S3 or over HTTP.",
            where=f"stages.{root.stage}.backend",
        )

    def moved(there: object) -> str:
        place = urlsplit(str(there))
        return f"{states}/{place.netloc}{place.path}"

    settings = dict(backend.settings)
    for key in ("username", "password", "client_private_key_pem"):
        settings.pop(key, None)
    named = settings.get("address") or address or f"https://sandbox/{root.stage}"
    settings["address"] = moved(named)
    for key in ("lock_address", "unlock_address"):
        if key in settings:
            settings[key] = moved(settings[key])
    return Backend(backend.type, settings, backend.workspace)


def unlock_command(root: Root, command: CommandContext) -> str:
    """The command that releases a lock on the state, but for the lock's ID, ready to be pasted."""
    which = ("--bootstrap",) if root.stage is None else ("--stage", root.stage)
    words = ("cipipe", "iac", "unlock", "--env", command.environment_name, *which)
    return shlex.join([*words, *command.command_options])


def push_command(context: "StageContext[Any]", *which: str) -> str:
    """The command that writes a state that an apply could not write, ready to be pasted."""
    words = ("cipipe", "iac", "push-state", "--env", context.environment_name)
    stage = ("--stage", context.stage.name)
    return shlex.join([*words, *stage, *context.command_options, *which])


def _data_dir(root: Root, command: CommandContext) -> Path:
    """Terraform's own folder, one for each state of each environment."""
    state = root.stage or "bootstrap"
    return own_folder(command.top) / "terraform" / command.environment_name / state
