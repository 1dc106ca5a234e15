"""What Terraform prints when it fails → an error: its diagnostics as JSON, or the text of commands
that have no JSON.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cipipe.errors import CipipeError, ConflictError, StageError
from cipipe.tools.terraform import locks as terraform_locks
from cipipe.tools.terraform.locks import Asked

_STALE = {"Saved plan is stale", "Saved plan does not match the given state"}
_TAIL = 20


def of_diagnostics(
    verb: str, diagnostics: Sequence[Mapping[str, Any]], asked: Asked
) -> CipipeError:
    """The error of a command with a machine-readable log; `diagnostics` are the errors in it."""
    for found in diagnostics:
        summary = str(found.get("summary", ""))
        if terraform_locks.REFUSED in summary:
            return terraform_locks.error(str(found.get("detail", "")), asked)
        if summary in _STALE:
            return ConflictError(
                "terraform-plan-stale",
                f"another run changed the Terraform state after this plan was made: {found.get('detail', '')}",
                hint="Nothing was applied. Run again: the plan is then made against the new state.",
                where=asked.where,
            )
    return _failed(verb, "\n".join(_shown(found) for found in diagnostics), asked)


def of_text(verb: str, text: str, status: int, asked: Asked) -> CipipeError:
    """The error of a command without such a log: `text` is what it wrote to standard error, secrets
    removed.

    What a command prints as its answer may hold secrets, and is never quoted.
    """
    if terraform_locks.REFUSED in text:
        return terraform_locks.error(text, asked)
    lines = "\n".join([line for line in text.splitlines() if line.strip()][-_TAIL:])
    return _failed(verb, lines or f"exit status {status}", asked)


def _failed(verb: str, text: str, asked: Asked) -> StageError:
    return StageError(
        "terraform-failed",
        f"terraform {verb} failed: {text}",
        hint="The message is Terraform's or the provider's own; its files lie in the folder below.",
        where=asked.where,
    )


def _shown(diagnostic: Mapping[str, Any]) -> str:
    place = diagnostic.get("range") or {}
    where = f"{place['filename']}:{place['start']['line']}: " if place else ""
    address = f" ({diagnostic['address']})" if diagnostic.get("address") else ""
    return (
        f"{where}{diagnostic.get('summary', '')}{address}: {diagnostic.get('detail', '')}".rstrip(
            ": \n"
        )
    )
