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

_GET_TERRAFORM = "Get 1.11 or newer: https://developer.hashicorp.com/terraform/install"


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
    try:
        found = terraform.version(ci.without_secrets(env))
    except ToolMissing:
        message = "terraform is not installed on this machine"
        raise StageError("tool-missing", message, hint=_GET_TERRAFORM) from None
    number = re.match(r"(\d+)\.(\d+)", found)
    if number is None or (int(number[1]), int(number[2])) < OLDEST_TERRAFORM:
        raise StageError(
            "tool-too-old",
            f"terraform {found} cannot lock the state with a file beside it, which 1.11 can",
            hint=_GET_TERRAFORM,
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
