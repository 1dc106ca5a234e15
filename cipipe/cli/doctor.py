"""`cipipe doctor`."""

import contextlib
from typing import TYPE_CHECKING

import click

from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.errors import CipipeError
from cipipe.interrupt import Interrupt
from cipipe.report import json, text

if TYPE_CHECKING:
    from cipipe.pipeline.project import Project
    from cipipe.pipeline.session import Session


@click.command
@common()
@click.option(
    "--offline",
    is_flag=True,
    help="Send no requests: not to the provider, AWS or a remote Docker.",
)
def doctor(shared: Common, offline: bool) -> int:
    """Check this machine and this job for what would stop a run.

    Tools, configuration, token, region, role and trust policy are checked.
    Nothing is changed.
    """
    from cipipe.pipeline.doctor import examine
    from cipipe.pipeline.doctor.base import Machine

    console = shared.console
    project, session, problem = _session(shared)
    with contextlib.ExitStack() as stack:
        if session is not None:
            session = stack.enter_context(sandboxed(shared, session))
        machine = Machine(
            env=console.env,
            redactor=console.redactor,
            interrupt=Interrupt(),
            target=session.target if session is not None else None,
            offline=offline,
        )
        found = list(examine(machine, project, session, problem=problem))

    checks = [check for check, _ in found]
    if shared.format == "json":
        shared.answer(json.checks(checks, session.environment_name if session else None))
    else:
        shared.answer(text.checks(checks, shared.style))
    errors = [error for _, error in found if error is not None]
    return errors[0].exit_status if errors else 0


def _session(shared: Common) -> "tuple[Project | None, Session | None, CipipeError | None]":
    """The project and the session, as far as there are any, and what prevents the rest."""
    try:
        project = shared.project()
    except CipipeError as error:
        return None, None, error
    try:
        return project, shared.session_in(project, shared.environment), None
    except CipipeError as error:
        return project, None, error
