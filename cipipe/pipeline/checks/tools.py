"""The tools that a run needs on this machine."""

import shutil
from collections.abc import Mapping

from cipipe.errors import StageError
from cipipe.model import Status
from cipipe.pipeline.planning.plan import PlanResult
from cipipe.pipeline.session import Session
from cipipe.stages import KINDS

# Programs that run a Terraform root, and how to get each.
_PROGRAMS = {
    "terraform": "developer.hashicorp.com/terraform/install",
    "tofu": "opentofu.org/docs/intro/install",
}


def missing_tools(session: Session, result: PlanResult) -> dict[str, str]:
    """The tools that due stages need and this machine lacks, with how to
    get each.

    Outside the sandbox a missing tool is an error before anything runs:
    StageError `tool-missing`.
    """
    candidates = result.snapshot.candidates
    due = [s.name for s in result.executable.plan.stages if s.status is not Status.UNCHANGED]
    config = session.project.config
    stages = [config.for_run(candidates[name].stage, session.environment_name) for name in due]
    needed = {tool for stage in stages for tool in KINDS[stage.kind].tools(stage)}
    path = session.project.env.get("PATH")
    missing = {
        program: how
        for program, how in _PROGRAMS.items()
        if program in needed and shutil.which(program, path=path) is None
    }
    if session.target is not None:
        known = session.target.missing.items()
        return {**missing, **{tool: why for tool, why in known if tool in needed}}
    if missing:
        raise tool_missing(missing)
    return {}


def tool_missing(missing: Mapping[str, str]) -> StageError:
    """The error for tools that are not installed, each with how to get it."""
    verb = "is" if len(missing) == 1 else "are"
    return StageError(
        "tool-missing",
        f"{' and '.join(missing)} {verb} not installed on this machine; nothing was started",
        hint="; ".join(f"{tool}: {how}" for tool, how in missing.items()),
    )
