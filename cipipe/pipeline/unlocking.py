"""`cipipe iac`: Terraform commands outside a run."""

from collections.abc import Callable

from cipipe import planner
from cipipe.errors import UsageError
from cipipe.model import Mode
from cipipe.pipeline.checks.refusals import refuse_ref
from cipipe.pipeline.identity.access import AwsTarget, connect, merge_request_read_only
from cipipe.pipeline.identity.profile import served
from cipipe.pipeline.planning import snapshot
from cipipe.pipeline.project import Project
from cipipe.redact import Redactor
from cipipe.stages import terraform as kind
from cipipe.stages.base import replaced
from cipipe.stages.terraform_root import Root, client, data_dir, unlock_command


def unlock(
    project: Project,
    name: str,
    stage: str | None,
    lock_id: str,
    *,
    redactor: Redactor,
    line: Callable[[str], None],
    target: AwsTarget | None = None,
) -> None:
    """Release a state lock, as the deploy role. Raises UsageError, RefusedError, StageError."""
    if project.context.mode is Mode.VERIFY:
        raise merge_request_read_only(name)
    refuse_ref(project, name, Mode.DEPLOY)
    project = project.at(name)
    chosen = _stage(project, stage)
    environment = project.config.environment(name)
    connected = connect(project, name, Mode.DEPLOY, redactor=redactor, target=target)
    settings = replaced(
        chosen.stage.settings,
        lambda v: project.config.expanded(v, name) if isinstance(v, str) else v,
    )
    with served(connected, line) as access:
        options = project.command_options(sandbox=target is not None)
        root = Root(
            folder=project.repository.root / settings.root,
            shown=settings.root,
            data_dir=data_dir(project.repository.root, name, chosen.stage.name),
            env=access.child_env,
            redactor=redactor,
            line=line,
            unlock=unlock_command(options, name, "--stage", chosen.stage.name),
            login=project.state_login,
        )
        terraform = client(root, kind.backend_of(settings, environment, sandbox=target is not None))
        terraform.init()
        terraform.unlock(lock_id)


def _stage(project: Project, wanted: str | None) -> planner.Candidate:
    found = [p for p in snapshot(project).candidates.values() if p.stage.kind == kind.NAME]
    chosen = [p for p in found if wanted in {None, p.stage.name}]
    if len(chosen) != 1:
        names = ", ".join(p.stage.name for p in found) or "none"
        raise UsageError(
            "stage-unknown",
            "which terraform stage is meant is not clear",
            hint=f"--stage is one of: {names}",
            where="--stage",
        )
    return chosen[0]
