"""`cipipe status`."""

import click

from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.pipeline import status as use_case
from cipipe.report import json, text


@click.command
@common()
def status(shared: Common) -> None:
    """Show what is deployed where, and whether this commit has something
    else.

    For each stage: its state, commit, age and pipeline.
    """
    name = shared.environment or shared.console.env.get("CIPIPE_ENV")
    session = shared.session_in(shared.project(), name)
    project = session.project
    # The sandbox has one account; elsewhere every environment is shown.
    names = list(project.config.environments)
    if name is not None or shared.sandbox:
        names = [session.environment_name]
    with sandboxed(shared, session) as session:
        found = use_case.status(session, names)

    head = project.repository.commit("HEAD")
    commit = head.oid if head else ""
    if shared.format == "json":
        shared.answer(json.status(found, commit))
    else:
        shared.answer(text.status(found, commit, shared.style))
