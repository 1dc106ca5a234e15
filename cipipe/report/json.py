"""The JSON documents that docs/commands.md describes, each with `"schema": 1`."""

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from cipipe import terminal
from cipipe.errors import CipipeError
from cipipe.model import SCHEMA, Plan, StagePlan
from cipipe.results import Check, DriftReport, EnvironmentStatus, Report, Verdict


def document(**parts: Any) -> str:
    """One JSON document, indented, with a line end."""
    encoded = msgspec.json.encode({"schema": SCHEMA, **parts})
    return msgspec.json.format(encoded, indent=2).decode() + "\n"


def plan(plan: Plan) -> str:
    return document(**plan_parts(plan))


def plan_parts(plan: Plan) -> dict[str, Any]:
    # The stages have paths in bytes, which msgspec would encode in base64.
    parts = msgspec.to_builtins(msgspec.structs.replace(plan, stages=()))
    return {**parts, "stages": [_stage(stage) for stage in plan.stages]}


def report(report: Report, error: CipipeError | None) -> str:
    parts = msgspec.to_builtins(report)
    return document(**parts, failed=report.failed, error=error_parts(error) if error else None)


def status(environments: Sequence[EnvironmentStatus], commit: str) -> str:
    return document(commit=commit, environments=msgspec.to_builtins(environments))


def drift(report: DriftReport) -> str:
    parts = msgspec.to_builtins(report)
    return document(**parts, drifted=report.drifted, unchecked=report.unchecked)


def checks(found: Sequence[Check], environment: str | None) -> str:
    failed = any(check.result is Verdict.FAILED for check in found)
    return document(environment=environment, checks=msgspec.to_builtins(list(found)), failed=failed)


def error(error: CipipeError) -> str:
    return document(error=error_parts(error))


def error_parts(error: CipipeError) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "id": error.id,
        # Messages quote the output of tools, which may be coloured.
        "message": terminal.plain(error.message),
        "hint": error.hint,
        "where": error.where,
    }
    if error.problems:
        parts["problems"] = [
            {
                "id": problem.id,
                "message": terminal.plain(problem.message),
                "hint": problem.hint,
                "where": problem.where,
            }
            for problem in error.problems
        ]
    return parts


def path(name: bytes) -> str | dict[str, str]:
    """A repository path; one that is not UTF-8 as `{"base64": …}`."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(name).decode()}


def _stage(stage: StagePlan) -> dict[str, Any]:
    parts = msgspec.to_builtins(msgspec.structs.replace(stage, paths=()))
    return {**parts, "paths": [path(name) for name in stage.paths]}
