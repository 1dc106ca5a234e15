"""Whether Terraform roots have the block of the backend that their stage
names.

Nothing is started. A run asks Terraform itself once it is initialised, and
believes that answer.
"""

from collections.abc import Iterator

from cipipe.errors import Problem, ProblemsError
from cipipe.pipeline.project import Project
from cipipe.stages import terraform
from cipipe.tools.terraform.backend import not_kept
from cipipe.tools.terraform.blocks import declared


def refuse_lost_states(project: Project) -> None:
    """Raise ProblemsError for every root whose state would not be kept where the settings say."""
    found = [
        problem
        for name in project.config.environments
        for problem in _problems(project.at(name), name)
    ]
    # Environments often share a root.
    problems = tuple(dict.fromkeys(found))
    if problems:
        roots = "root does" if len(problems) == 1 else "roots do"
        raise ProblemsError(
            "config-invalid",
            f"{len(problems)} Terraform {roots} not keep the state where {project.config_path} "
            "says",
            problems,
        )


def _problems(project: Project, environment: str) -> Iterator[Problem]:
    for stage in project.config.stages.values():
        if stage.kind != terraform.NAME:
            continue
        root = project.config.expanded(stage.settings.root, environment)
        folder = project.repository.root / root
        files = {file.name: file.read_bytes() for file in folder.glob("*.tf*") if file.is_file()}
        # A folder without Terraform files is reported as a path that is
        # missing.
        if not any(name.endswith((".tf", ".tf.json")) for name in files):
            continue
        found = declared(files)
        wanted = str(stage.settings.backend.get("type", "s3"))
        if found is None or found.type != wanted:
            actual = found.type if found is not None else None
            error = not_kept(actual, wanted=wanted, root=root, declared=found)
            yield Problem(
                id=error.id, message=error.message, where=error.where or root, hint=error.hint
            )
