"""The one place where a client of Terraform is made: for a stage's run, for `iac unlock`, for
`bootstrap`.
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
"""Gives the variables that let this job in to an HTTP store of states at that address."""


def no_login(address: str) -> Mapping[str, str]:  # noqa: ARG001 - it is a Login
    """Where the job has nothing that a store would take."""
    return {}


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """A Terraform root, and what a client in it works with.

    `shown` is the root as messages name it, `data_dir` Terraform's own folder, `env` the whole
    environment of its processes, `unlock` the command that releases a lock on the state, without
    the lock's ID.
    """

    folder: Path
    shown: str
    data_dir: Path
    env: Mapping[str, str]
    redactor: Redactor
    line: Callable[[str], None]
    unlock: str
    interrupt: Interrupt | None = None
    login: Login = no_login


def client(root: Root, kept: Backend) -> "Terraform":
    """Terraform in that root, with its state in that backend. Raises UsageError where TF_WORKSPACE
    contradicts it.
    """
    from cipipe.tools.terraform.client import Terraform

    refuse_workspace_variable(root.env, kept.workspace)
    env = dict(root.env)
    if kept.type == "http":
        login = root.login(str(kept.settings.get("address") or env.get("TF_HTTP_ADDRESS", "")))
        root.redactor.register(login.get("TF_HTTP_PASSWORD", ""))
        env |= login
    return Terraform(
        root.folder,
        root.data_dir,
        env,
        root.redactor,
        root.line,
        root.unlock,
        root.interrupt,
        backend=kept,
        shown=root.shown,
    )


def backend(
    kind: str,
    settings: Mapping[str, Value],
    environment: Environment,
    *,
    workspace: str | None = None,
    sandbox: bool,
) -> Backend:
    """A backend of that type. S3's region is the environment's; the sandbox's endpoint knows
    buckets by path only.
    """
    given = dict(settings)
    if kind == "s3":
        given = {"region": environment.region, **given} | (
            {"use_path_style": True} if sandbox else {}
        )
    return Backend(kind, given, workspace)


def data_dir(top: Path, environment: str, state: str) -> Path:
    """Terraform's own folder for one state of an environment: a stage's, or `bootstrap`."""
    return own_folder(top) / "terraform" / environment / state


def unlock_command(options: tuple[str, ...], environment: str, *which: str) -> str:
    """The command that releases a lock, to be pasted where the run was started. `options` are those
    of the run.
    """
    return shlex.join(["cipipe", "iac", "unlock", "--env", environment, *which, *options])
