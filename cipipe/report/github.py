"""A plan as lines for `$GITHUB_OUTPUT`: what a workflow's `if:` and matrix
use.

`stages` (a JSON list of names), `any` (whether a stage other than the
default one is due), `due_STAGE` for every stage, `environment` and `mode`.
"""

import hashlib
import json
import re

from cipipe.model import Plan, Reason, Status


def render(plan: Plan) -> str:
    """The lines. No value can pose as another output."""
    due = [stage for stage in plan.stages if stage.status is not Status.UNCHANGED]
    values = {
        "environment": plan.environment,
        "mode": plan.mode.value,
        "any": _boolean(any(stage.reason is not Reason.NOTHING_DUE for stage in due)),
        "stages": json.dumps([stage.name for stage in due]),
    }

    # An output's name allows fewer characters than a stage's.
    names = {stage.name for stage in due}
    for stage in plan.stages:
        output = re.sub(r"[^A-Za-z0-9_-]", "_", stage.name)
        values[f"due_{output}"] = _boolean(stage.name in names)

    # A delimiter that is in none of the values, since it is made from all
    # of them.
    delimiter = "cipipe_" + hashlib.sha256(repr(values).encode()).hexdigest()
    return "".join(f"{name}<<{delimiter}\n{value}\n{delimiter}\n" for name, value in values.items())


def _boolean(value: bool) -> str:
    return "true" if value else "false"
