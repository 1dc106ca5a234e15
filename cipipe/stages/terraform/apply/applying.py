"""Applying a saved plan: what happens to each resource, and what is left
when it stops half-way.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cipipe.errors import StageError
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.terraform.apply import recovery
from cipipe.stages.terraform.apply.recovery import Rescued
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.terminal import some

if TYPE_CHECKING:
    from cipipe.tools.terraform.client import Terraform
    from cipipe.tools.terraform.log.apply_log import Applied

_SHOWN = 10

FINDING = "apply"
"""The topic of an apply that stopped, among a stage's findings."""


def apply(
    terraform: "Terraform",
    plan: Path,
    context: StageContext[TerraformSettings],
    result: StageResult,
) -> None:
    """Apply exactly this plan.

    Raises StageError, which says by address what was done and what was not.
    A state that could not be written is kept first. Nothing is repeated.
    """
    # Commands that apply nothing import none of it.
    from cipipe.tools.terraform.log.apply_log import ApplyLog

    log = ApplyLog()
    try:
        terraform.apply(plan, log)
    except (StageError, KeyboardInterrupt) as error:
        applied = log.outcome()
        kept = recovery.rescue(context, result, log.dumped)
        if not applied.changed_anything and kept is None:
            raise
        result.findings[FINDING] = msgspec.to_builtins(applied)
        if isinstance(error, StageError):
            raise _stopped(error, applied, kept) from error
        for line in [*_lines(applied), *_unwritten(kept)]:
            context.line(line)
        raise


def _stopped(error: StageError, applied: "Applied", kept: Rescued | None) -> StageError:
    if kept is not None:
        return StageError(
            "terraform-state-not-written",
            "\n".join(
                [
                    "the apply could not write the new state of what it changed:",
                    error.message,
                    *_lines(applied),
                    *_unwritten(kept),
                ]
            ),
            hint=f"Let the role write the state, then: {kept.command}",
            where=error.where,
        )
    return StageError(
        "terraform-partly-applied",
        "\n".join([error.message, *_lines(applied)]),
        hint="What was applied is in the state. Fix the cause and run again: Terraform goes on "
        "from there.",
        where=error.where,
    )


def _lines(applied: "Applied") -> Iterable[str]:
    for word, addresses in applied.done.items():
        if addresses:
            yield f"{word} ({len(addresses)}): {some(addresses, _SHOWN)}"
    if applied.failed:
        failed = [f"{resource.address} ({resource.action})" for resource in applied.failed]
        yield f"failed ({len(failed)}): {some(failed, _SHOWN)}"
    if applied.unknown:
        yield f"started, outcome unknown ({len(applied.unknown)}): {some(applied.unknown, _SHOWN)}"
    if applied.not_started:
        yield f"not started ({len(applied.not_started)}): {some(applied.not_started, _SHOWN)}"


def _unwritten(kept: Rescued | None) -> Iterable[str]:
    if kept is not None:
        yield f"the state is kept in {' and in '.join(kept.places)}"
        yield f"write it with: {kept.command}"
