"""Errors for what Terraform prints when it fails: diagnostics in JSON, or text."""

from collections.abc import Mapping, Sequence
from typing import Any

from cipipe.errors import CipipeError, ConflictError, StageError
from cipipe.tools.terraform import locks
from cipipe.tools.terraform.locks import LockContext

_STALE = {"Saved plan is stale", "Saved plan does not match the given state"}
# Where Terraform put a state that it could not write, and what to do with
# it. cipipe moves the file, and says so itself.
_ADVICE = "Failed to persist state to backend"
# Lines of text that an error quotes, from the end.
_TAIL = 20


def of_diagnostics(
    command: str, diagnostics: Sequence[Mapping[str, Any]], context: LockContext
) -> CipipeError:
    """The error of a command with a machine-readable log, such as `terraform plan`;
    `diagnostics` are the errors in it.
    """
    for found in diagnostics:
        summary = str(found.get("summary", ""))
        if locks.REFUSED in summary:
            return locks.error(str(found.get("detail", "")), context)
        if summary in _STALE:
            return ConflictError(
                "terraform-plan-stale",
                "another run changed the Terraform state after this plan was made: "
                + str(found.get("detail", "")),
                hint="Nothing was applied. Run again: the plan is then made against the new state.",
                where=context.where,
            )
    told = [found for found in diagnostics if found.get("summary") != _ADVICE] or diagnostics
    return _failed(command, "\n".join(_shown(found) for found in told), context)


def of_text(command: str, text: str, status: int, context: LockContext) -> CipipeError:
    """The error of a command without such a log.

    `text` is its standard error, secrets removed. Its standard output may
    contain secrets that nobody registered yet, and is never quoted.
    """
    if locks.REFUSED in text:
        return locks.error(text, context)
    lines = "\n".join([line for line in text.splitlines() if line.strip()][-_TAIL:])
    return _failed(command, lines or f"exit status {status}", context)


def _failed(command: str, text: str, context: LockContext) -> StageError:
    return StageError(
        "terraform-failed",
        f"{command} failed: {text}",
        hint="The message is Terraform's or the provider's own; its files are in the folder below.",
        where=context.where,
    )


def _shown(diagnostic: Mapping[str, Any]) -> str:
    """`FILE:LINE: SUMMARY (ADDRESS): DETAIL`, as far as the diagnostic has them."""
    found = diagnostic.get("range") or {}
    where = f"{found['filename']}:{found['start']['line']}: " if found else ""
    address = f" ({diagnostic['address']})" if diagnostic.get("address") else ""
    summary = diagnostic.get("summary", "")
    detail = diagnostic.get("detail", "")
    return f"{where}{summary}{address}: {detail}".rstrip(": \n")
