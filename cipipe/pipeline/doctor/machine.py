"""What of this machine would stop a run: git, Terraform, a Docker daemon, and the configuration."""

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
"""Its S3 backend is the first that locks with a file beside the state."""


def tools_of(project: Project | None) -> frozenset[str] | None:
    """The tools that the project's stages need; None where there is no project to tell."""
    if project is None:
        return None
    return frozenset(
        tool for stage in project.config.stages.values() for tool in KINDS[stage.kind].tools(stage)
    )


def check_git(env: Mapping[str, str]) -> str:
    return git.version(ci.without_secrets(env))


def check_terraform(env: Mapping[str, str], tools: frozenset[str] | None) -> str:
    _skip_unless("terraform", tools)
    try:
        found = terraform.version(ci.without_secrets(env))
    except ToolMissing:
        hint = "Get 1.11 or newer: https://developer.hashicorp.com/terraform/install"
        raise StageError(
            "tool-missing", "terraform is not installed on this machine", hint=hint
        ) from None
    number = re.match(r"(\d+)\.(\d+)", found)
    if number is None or (int(number[1]), int(number[2])) < OLDEST_TERRAFORM:
        raise StageError(
            "tool-too-old",
            f"terraform {found} does not lock the state beside it, which 1.11 does",
            hint="Get 1.11 or newer: https://developer.hashicorp.com/terraform/install",
        )
    return found


def check_config(project: Project | None, problem: CipipeError | None) -> str:
    if isinstance(problem, ProblemsError):
        first = problem.problems[0]
        raise UsageError(
            problem.id,
            f"{problem.message}; {first.where}: {first.message}",
            hint="`cipipe check` lists all of them.",
        )
    if project is None or problem is not None:
        raise problem or UsageError(
            "config-missing", "there is no cipipe.toml", hint="`cipipe check` looks for it."
        )
    stages = " → ".join(project.config.stages)
    return f"{project.config_path}: {project.config.project.name}, stages {stages}"


def _skip_unless(tool: str, tools: frozenset[str] | None) -> None:
    if tools is not None and tool not in tools:
        raise Skipped("no stage needs it")
