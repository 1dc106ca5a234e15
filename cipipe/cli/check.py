"""`cipipe check`."""

import click

from cipipe.cli.options import Common, common
from cipipe.report import json


@click.command
@common(sandbox=False)
def check(shared: Common) -> None:
    """Check the configuration, and that the files it names are there; every problem is reported in
    one go.
    """
    from cipipe.pipeline.checks.state_blocks import refuse_lost_states

    project = shared.project(look=True)
    refuse_lost_states(project)
    parts = {
        "project": project.config.project.name,
        "environments": list(project.config.environments),
        "stages": list(project.config.stages),
    }
    if shared.format == "json":
        shared.answer(json.document(**parts))
        return
    shared.answer(
        f"{project.config_path} is valid: project {parts['project']}, "
        f"environments {', '.join(parts['environments'])}, stages {' → '.join(parts['stages'])}\n"
    )
