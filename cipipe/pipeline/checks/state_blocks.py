"""Whether the Terraform roots of a project have a block for the backend that their stage names;
nothing is started.

A run asks Terraform the same once it is initialised, and takes its word.
"""

from collections.abc import Iterator

from cipipe.errors import Problem, ProblemsError
from cipipe.pipeline.project import Project
from cipipe.stages import terraform
from cipipe.tools.terraform.backend import not_kept
from cipipe.tools.terraform.blocks import declared


def refuse_lost_states(project: Project) -> None:
    """Raise ProblemsError with every root that would lose its state, or keep it elsewhere than the
    settings say.
    """
    found = [
        problem
        for name in project.config.environments
        for problem in _problems(project.at(name), name)
    ]
    problems = tuple(dict.fromkeys(found))
    if problems:
        raise ProblemsError(
            "config-invalid",
            f"{len(problems)} Terraform root{'s do' if len(problems) > 1 else ' does'} not keep the state where "
            f"{project.config_path} says",
            problems,
        )


def _problems(project: Project, environment: str) -> Iterator[Problem]:
    for stage in project.config.stages.values():
        if stage.kind != terraform.NAME:
            continue
        root = project.config.expanded(stage.settings.root, environment)
        folder = project.repository.root / root
        files = {file.name: file.read_bytes() for file in folder.glob("*.tf*") if file.is_file()}
        if not any(name.endswith((".tf", ".tf.json")) for name in files):
            continue
        found = declared(files)
        wanted = str(stage.settings.backend.get("type", "s3"))
        if found is None or found.type != wanted:
            actual = found.type if found is not None else None
            error = not_kept(actual, wanted=wanted, root=root, declared=found)
            yield Problem(error.id, error.message, error.where or root, error.hint)
