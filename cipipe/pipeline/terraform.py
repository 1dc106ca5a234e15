"""`cipipe iac`: Terraform commands outside a run."""

from collections.abc import Callable

from cipipe import planner
from cipipe.errors import UsageError
from cipipe.model import Mode
from cipipe.pipeline.access import Door, connect
from cipipe.pipeline.planning import snapshot
from cipipe.pipeline.profile import served
from cipipe.pipeline.project import Project
from cipipe.redact import Redactor
from cipipe.stages import terraform as kind
from cipipe.stages.base import replaced
from cipipe.tools.own_folder import own_folder
from cipipe.tools.terraform import Terraform


def unlock(
    project: Project,
    name: str,
    stage: str | None,
    lock_id: str,
    *,
    redactor: Redactor,
    line: Callable[[str], None],
    door: Door | None = None,
) -> None:
    """Release a state lock, as the deploy role. Raises UsageError, StageError."""
    project = project.at(name)
    chosen = _stage(project, stage)
    environment = project.config.environment(name)
    connected = connect(project, name, Mode.DEPLOY, redactor=redactor, door=door)
    settings = replaced(chosen.stage.settings, lambda v: project.config.expanded(v, name) if isinstance(v, str) else v)
    with served(connected, line) as access:
        terraform = Terraform(
            project.repository.root / settings.root,
            own_folder(project.repository.root) / "terraform" / name / chosen.stage.name,
            access.child_env,
            redactor,
            line,
            "cipipe iac unlock",
        )
        terraform.init(kind.backend(settings, environment, sandbox=door is not None))
        terraform.unlock(lock_id)


def _stage(project: Project, wanted: str | None) -> planner.Prepared:
    found = [p for p in snapshot(project).prepared.values() if p.stage.kind == kind.NAME]
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
