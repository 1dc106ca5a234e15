"""Errors for what Terraform prints when it fails: diagnostics in JSON, or text."""

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cipipe.errors import CipipeError, ConflictError, Problem, RefusedError, StageError
from cipipe.tools.terraform import locks
from cipipe.tools.terraform.locks import LockContext

_STALE = {"Saved plan is stale", "Saved plan does not match the given state"}
# Where Terraform put a state that it could not write, and what to do with
# it. cipipe moves the file, and says so itself.
_ADVICE = "Failed to persist state to backend"
# What `init` says above the errors that it found in the files.
_PREAMBLE = "Terraform encountered problems during initialisation"
# Lines of text that an error quotes, from the end.
_TAIL = 20

_PREVENTED = "Instance cannot be destroyed"
_PREVENTED_ADDRESS = re.compile(r"Resource (.+?) has lifecycle\.prevent_destroy")


class PreventedDestroy(RefusedError):
    """A plan would destroy resources with `prevent_destroy`: each is one of `problems`."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(
            "terraform-prevent-destroy",
            "the plan deletes or replaces resources that have prevent_destroy",
        )
        self.problems = problems


def of_diagnostics(
    command: str, diagnostics: Sequence[Mapping[str, Any]], context: LockContext
) -> CipipeError:
    """The error of a command with a machine-readable log, such as `terraform plan`;
    `diagnostics` are the errors in it.
    """
    if diagnostics and all(found.get("summary") == _PREVENTED for found in diagnostics):
        return PreventedDestroy(tuple(_prevented(found, context) for found in diagnostics))
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
    told = [found for found in diagnostics if not _is_noise(found)] or diagnostics
    return _failed(command, "\n".join(_shown(found, context.where) for found in told), context)


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
        hint="The message is Terraform's or the provider's own. Correct the cause and run again.",
        where=context.where,
    )


def _prevented(diagnostic: Mapping[str, Any], context: LockContext) -> Problem:
    detail = " ".join(str(diagnostic.get("detail", "")).split())
    match = _PREVENTED_ADDRESS.search(detail)
    address = match[1] if match else str(diagnostic.get("address") or "a resource")
    place = diagnostic.get("range") or {}
    where = context.where
    if place:
        where = _place(place, context.where)
    return Problem(
        id="terraform-prevent-destroy",
        message=f"{address} has prevent_destroy",
        where=where,
        hint="If it may go, remove `prevent_destroy` there and commit that.",
    )


def _is_noise(diagnostic: Mapping[str, Any]) -> bool:
    summary = str(diagnostic.get("summary", ""))
    return summary == _ADVICE or summary.replace("OpenTofu", "Terraform").startswith(_PREAMBLE)


def _place(found: Mapping[str, Any], root: str) -> str:
    """`FILE:LINE` in the repository."""
    # Relative to the root, and of a module beside it with `..`.
    file = posixpath.normpath(posixpath.join(root, found["filename"]))
    return f"{file}:{found['start']['line']}"


def _shown(diagnostic: Mapping[str, Any], root: str) -> str:
    """`FILE:LINE: SUMMARY (ADDRESS): DETAIL`, as far as the diagnostic has them."""
    found = diagnostic.get("range") or {}
    where = f"{_place(found, root)}: " if found else ""
    address = f" ({diagnostic['address']})" if diagnostic.get("address") else ""
    summary = diagnostic.get("summary", "")
    detail = diagnostic.get("detail", "")
    return f"{where}{summary}{address}: {detail}".rstrip(": \n")
