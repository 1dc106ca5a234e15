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


@click.command
@common()
@click.option(
    "--offline",
    is_flag=True,
    help="Ask nobody: neither the provider, nor AWS, nor a remote Docker.",
)
def doctor(shared: Common, offline: bool) -> int:
    """Check this machine and this job: git, terraform, docker, configuration, token, region, role,
    trust policy.
    """
    from cipipe.pipeline.doctor import examine

    project, name, problem = _project(shared)
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(sandboxed(shared, project, name)) if project and name else None
        found = list(
            examine(
                shared.console.env,
                project,
                name,
                problem=problem,
                redactor=shared.console.redactor,
                interrupt=Interrupt(),
                offline=offline,
                target=target,
            )
        )
    checks, errors = [check for check, _ in found], [error for _, error in found if error]
    shared.answer(
        json.checks(checks, name) if shared.format == "json" else text.checks(checks, shared.style)
    )
    return errors[0].exit_status if errors else 0


def _project(shared: Common) -> "tuple[Project | None, str | None, CipipeError | None]":
    """The project and its environment, as far as they can be had, and what stands in the way."""
    try:
        project = shared.project()
    except CipipeError as error:
        return None, None, error
    try:
        return project, project.environment_name(shared.environment), None
    except CipipeError as error:
        return project, None, error
