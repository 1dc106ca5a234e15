"""A plan as lines for `$GITHUB_OUTPUT`: what a workflow's `if:` and matrix
use.

`environment`, `mode`, `any` (whether a stage other than the default one is
due), `stages` (a JSON list of names), `waves` (a JSON list of such lists,
one for each round of jobs) and `approval` (a JSON list of the stages that are
due and whose changes people approve).
"""

import hashlib
import json
from collections.abc import Set as AbstractSet

from cipipe.model import Plan, Reason, Status


def render(plan: Plan, *, approval: AbstractSet[str] = frozenset()) -> str:
    """The lines. No value can pose as another output. `approval` are the
    stages whose changes people approve.
    """
    due = [stage for stage in plan.stages if stage.status is not Status.UNCHANGED]
    any_due = any(stage.reason is not Reason.NOTHING_DUE for stage in due)
    values = {
        "environment": plan.environment,
        "mode": plan.mode.value,
        "any": "true" if any_due else "false",
        "stages": json.dumps([stage.name for stage in due]),
        "waves": json.dumps(_waves(plan) if any_due else []),
        "approval": json.dumps([stage.name for stage in due if stage.name in approval]),
    }

    # A delimiter that is in none of the values, since it is made from all
    # of them.
    delimiter = "cipipe_" + hashlib.sha256(repr(values).encode()).hexdigest()
    return "".join(f"{name}<<{delimiter}\n{value}\n{delimiter}\n" for name, value in values.items())


def _waves(plan: Plan) -> list[list[str]]:
    """The names of the stages that are due: each in a later list than those
    that it needs, directly or through stages that stay as they are.
    """
    waves: list[list[str]] = []
    # How many lists have to be done before what needs a stage.
    done: dict[str, int] = {}
    for stage in plan.stages:
        first = max((done[name] for name in stage.needs if name in done), default=0)
        done[stage.name] = first
        if stage.status is Status.UNCHANGED:
            continue
        done[stage.name] = first + 1
        if first == len(waves):
            waves.append([])
        waves[first].append(stage.name)
    return waves
