"""`cipipe status`."""

import click

from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.pipeline import status as use_case
from cipipe.report import json, text


@click.command
@common()
def status(shared: Common) -> None:
    """Tell what is deployed where: commit, age, pipeline, state, and whether this commit holds
    something else.
    """
    name = shared.environment or shared.console.env.get("CIPIPE_ENV")
    session = shared.session_in(shared.project(), name)
    project = session.project
    # The sandbox has one account; elsewhere every environment is shown.
    one = name is not None or shared.sandbox
    names = [session.environment_name] if one else list(project.config.environments)
    with sandboxed(shared, session) as session:
        found = use_case.status(session, names)
    head = project.repository.commit("HEAD")
    commit = head.oid if head else ""
    shared.answer(
        json.status(found, commit)
        if shared.format == "json"
        else text.status(found, commit, shared.style)
    )
