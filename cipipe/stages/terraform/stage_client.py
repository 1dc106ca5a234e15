"""Terraform's client for a stage that runs."""

from typing import TYPE_CHECKING

from cipipe.stages.context import StageContext
from cipipe.stages.terraform.root import CommandContext, Root, client
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.stages.terraform.state import backend_of

if TYPE_CHECKING:
    from cipipe.tools.terraform.client import Terraform


def client_of(context: StageContext[TerraformSettings]) -> "Terraform":
    """Terraform in the stage's root."""
    settings = context.stage.settings
    variables = {
        "TF_VAR_project": context.project,
        "TF_VAR_environment": context.environment_name,
        "TF_VAR_region": context.environment.region,
        "TF_VAR_account_id": context.environment.account_id,
    }
    root = Root(
        folder=context.repository.root / settings.root,
        shown=settings.root,
        stage=context.stage.name,
        backend=backend_of(settings, context.environment, sandbox=context.sandbox),
        lock_timeout=settings.lock_timeout,
    )
    command = CommandContext(
        top=context.repository.root,
        environment_name=context.environment_name,
        env={**context.child_env, **variables},
        redactor=context.redactor,
        line=context.line,
        command_options=context.command_options,
        interrupt=context.interrupt,
        login=context.state_login,
    )
    return client(root, command)
