"""What on this machine would stop a run: git, Terraform, and the configuration."""

import re
from collections.abc import Mapping

from cipipe import ci
from cipipe.errors import CipipeError, ProblemsError, StageError, UsageError
from cipipe.pipeline.doctor.base import Skipped
from cipipe.pipeline.project import Project
from cipipe.stages import KINDS
from cipipe.tools.git import command as git
from cipipe.tools.process import ToolMissing
from cipipe.tools.terraform import commands as terraform

OLDEST_TERRAFORM = (1, 11)
"""The first version whose S3 backend locks with a file beside the state."""

OLDEST_TOFU = (1, 10)
"""That of OpenTofu."""

_GET_TERRAFORM = "Get 1.11 or newer: https://developer.hashicorp.com/terraform/install"
_GET_TOFU = "Get 1.10 or newer: https://opentofu.org/docs/intro/install"


def tools_of(project: Project | None) -> frozenset[str] | None:
    """The tools that the project's stages need; None where there is no project."""
    if project is None:
        return None
    stages = project.config.stages.values()
    return frozenset(tool for stage in stages for tool in KINDS[stage.kind].tools(stage))


def check_git(env: Mapping[str, str]) -> str:
    return git.version(ci.without_secrets(env))


def check_terraform(env: Mapping[str, str], tools: frozenset[str] | None) -> str:
    if tools is not None and "terraform" not in tools:
        raise Skipped("no stage needs it")
    return _version(env, "terraform", OLDEST_TERRAFORM, hint=_GET_TERRAFORM)


def check_tofu(env: Mapping[str, str]) -> str:
    return _version(env, "tofu", OLDEST_TOFU, hint=_GET_TOFU)


def _version(env: Mapping[str, str], program: str, oldest: tuple[int, int], *, hint: str) -> str:
    try:
        found = terraform.version(ci.without_secrets(env), program)
    except ToolMissing:
        message = f"{program} is not installed on this machine"
        raise StageError("tool-missing", message, hint=hint) from None
    number = re.match(r"(\d+)\.(\d+)", found)
    if number is None or (int(number[1]), int(number[2])) < oldest:
        raise StageError(
            "tool-too-old",
            f"{program} {found} cannot lock the state with a file beside it, which "
            f"{oldest[0]}.{oldest[1]} can",
            hint=hint,
        )
    return found


def check_config(project: Project | None, problem: CipipeError | None) -> str:
    """`problem` is why there is no project, or none that can be used."""
    if isinstance(problem, ProblemsError):
        first = problem.problems[0]
        raise UsageError(
            problem.id,
            f"{problem.message}; {first.where}: {first.message}",
            hint="`cipipe check` lists all of them.",
        )
    if problem is not None:
        raise problem
    if project is None:
        raise UsageError(
            "config-missing", "there is no cipipe.toml", hint="`cipipe check` looks for it."
        )
    stages = " → ".join(project.config.stages)
    return f"{project.config_path}: {project.config.project.name}, stages {stages}"
