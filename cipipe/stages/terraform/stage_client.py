"""Terraform's client for a stage that runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cipipe.model import Environment
from cipipe.stages.context import StageContext
from cipipe.stages.settings import Stage
from cipipe.stages.terraform.root import CommandContext, Root, client
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.stages.terraform.state import backend_of

if TYPE_CHECKING:
    from cipipe.tools.terraform.client import Terraform


def client_of(context: StageContext[TerraformSettings], top: Path | None = None) -> "Terraform":
    """Terraform in the stage's root. `top` is a folder with the repository's
    files in it; None: the work tree.
    """
    variables = {
        "TF_VAR_project": context.project,
        "TF_VAR_environment": context.environment_name,
        "TF_VAR_region": context.environment.region,
        "TF_VAR_account_id": context.environment.account_id,
    }
    root = root_of(
        context.stage,
        context.environment,
        top=context.repository.root,
        sandbox=context.sandbox,
    )
    if top is not None:
        root = msgspec.structs.replace(root, folder=top / context.stage.settings.root)
    command = CommandContext(
        top=top or context.repository.root,
        environment_name=context.environment_name,
        env={**context.child_env, **variables},
        redactor=context.redactor,
        line=context.line,
        command_options=context.command_options,
        interrupt=context.interrupt,
        login=context.state_login,
    )
    return client(root, command)


def root_of(
    stage: Stage[TerraformSettings], environment: Environment, *, top: Path, sandbox: bool
) -> Root:
    """The root of a stage whose settings are resolved; `top` is the repository's folder."""
    settings = stage.settings
    cache = settings.plugin_cache
    return Root(
        folder=top / settings.root,
        shown=settings.root,
        stage=stage.name,
        backend=backend_of(settings, environment, sandbox=sandbox),
        lock_timeout=settings.lock_timeout,
        program=settings.binary,
        plugin_cache=top / cache if cache else None,
    )
