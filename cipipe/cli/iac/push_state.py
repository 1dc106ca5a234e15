"""`cipipe iac push-state`: a state that an apply could not write."""

from pathlib import Path

import click
import msgspec

from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.errors import UsageError
from cipipe.pipeline.infrastructure import state_pushing
from cipipe.report import json


@click.command("push-state")
@common()
@click.option("--stage", metavar="STAGE", help="Which terraform stage, where there are several.")
@click.option("--saved", metavar="ID", help="The state that cipipe kept under this ID.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
def push_state(shared: Common, stage: str | None, saved: str | None, file: Path | None) -> None:
    """Write a state that an apply could not write: FILE, or the one of --saved.

    The error of the run says which. A newer state is never overwritten.
    """
    if (saved is None) == (file is None):
        raise UsageError(
            "terraform-no-saved-state",
            "push-state needs a FILE or --saved ID, and not both",
            hint="Copy the command from the error of the run whose state was not written.",
        )
    with sandboxed(shared, shared.session(), bootstrap=False) as session:
        if saved is not None:
            pushed = state_pushing.push_saved(session, stage, saved)
        else:
            pushed = state_pushing.push_file(session, stage, file or Path())
    if shared.format == "json":
        shared.answer(json.document(**msgspec.to_builtins(pushed)))
    elif pushed.written:
        shared.answer(f"wrote the state of {pushed.stage}, serial {pushed.serial}\n")
    else:
        shared.answer(f"the state of {pushed.stage} has serial {pushed.serial} already\n")
