"""The error that is made of the diagnostics of a failed command."""

from datetime import UTC, datetime
from typing import Any

from cipipe.tools.terraform.errors import of_diagnostics
from cipipe.tools.terraform.locks import LockContext

CONTEXT = LockContext(
    unlock="cipipe iac unlock", where="infra/app", now=datetime(2026, 3, 4, tzinfo=UTC)
)
PREAMBLE = (
    "{program} encountered problems during initialisation, including problems\n"
    "with the configuration, described below.\n\n…"
)


def diagnostic(file: str) -> dict[str, Any]:
    return {
        "severity": "error",
        "summary": "Unsupported argument",
        "detail": 'An argument named "vale" is not expected here.',
        "range": {"filename": file, "start": {"line": 12}},
    }


def test_places_are_in_the_repository() -> None:
    """A place that people can open, also of a module beside the root."""
    found = [diagnostic("main.tf"), diagnostic("../modules/net/main.tf")]
    text = 'Unsupported argument: An argument named "vale" is not expected here.'
    assert of_diagnostics("terraform plan", found, CONTEXT).message.splitlines() == [
        f"terraform plan failed: infra/app/main.tf:12: {text}",
        f"infra/modules/net/main.tf:12: {text}",
    ]


def test_what_init_says_above_its_errors_is_left_out() -> None:
    for program in ("Terraform", "OpenTofu"):
        preamble = {"severity": "error", "summary": PREAMBLE.format(program=program)}
        error = of_diagnostics("init", [diagnostic("main.tf"), preamble], CONTEXT)
        assert "encountered problems" not in error.message
        assert "Unsupported argument" in error.message


def test_a_preamble_alone_is_better_than_nothing() -> None:
    preamble = {"severity": "error", "summary": PREAMBLE.format(program="Terraform")}
    assert "encountered problems" in of_diagnostics("init", [preamble], CONTEXT).message
