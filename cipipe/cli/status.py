"""`cipipe status`."""

import click

from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.pipeline import status as use_case
from cipipe.report import json, text


@click.command
@common()
def status(shared: Common) -> None:
    """Tell what is deployed: commit, age, pipeline, state, and whether this commit holds something else."""
    project = shared.project()
    name = project.environment_name(shared.environment or shared.console.env.get("CIPIPE_ENV"))
    with sandboxed(shared, project, name) as door:
        found = [use_case.status(project, name, redactor=shared.console.redactor, door=door)]
    head = project.repository.commit("HEAD")
    commit = head.oid if head else ""
    shared.answer(json.status(found, commit) if shared.format == "json" else text.status(found, commit, shared.style))
