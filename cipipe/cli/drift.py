"""`cipipe drift`."""

import click

from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.errors import CipipeError, ConflictError, StageError
from cipipe.pipeline import drift as use_case
from cipipe.report import drift as report
from cipipe.report import json
from cipipe.results import DriftReport


@click.command
@common(formats=("text", "json", "markdown"))
@click.argument("stages", nargs=-1)
def drift(shared: Common, stages: tuple[str, ...]) -> int:
    """Compare what is deployed with what the ledger says. With STAGES, only
    those.

    Changes nothing. Exit status 6 if something differs.
    """
    with sandboxed(shared, shared.session()) as session:
        found = use_case.drift(session, stages)
    if shared.format == "json":
        shared.answer(json.drift(found))
    elif shared.format == "markdown":
        shared.answer(report.markdown(found))
    else:
        shared.answer(report.text(found, shared.style))

    error = _error(found)
    if error is None:
        return 0
    # The answer is on standard output already.
    shared.console.machine = False
    shared.console.error(error)
    return error.exit_status


def _error(found: DriftReport) -> CipipeError | None:
    where = f"environments.{found.environment}"
    if found.unchecked:
        return StageError(
            "drift-unchecked",
            f"{found.environment}: {report.counted(found)}",
            hint="Each finding `unchecked` says what to do.",
            where=where,
        )
    if found.drifted:
        return ConflictError(
            "drift-found",
            f"{found.environment}: {report.counted(found)}",
            hint="Each finding says what to do.",
            where=where,
        )
    return None
