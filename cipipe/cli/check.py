"""`cipipe check`."""

from pathlib import Path

import click

from cipipe.cli.options import Common, common
from cipipe.pipeline.project import load
from cipipe.report import json


@click.command
@common(sandbox=False)
def check(shared: Common) -> None:
    """Check the configuration and that the files it names exist. Reports every problem at once."""
    from cipipe.pipeline.checks.paths import checker
    from cipipe.pipeline.checks.state_blocks import refuse_lost_states

    project = load(Path.cwd(), shared.console.env, shared.config, also=checker)
    refuse_lost_states(project)
    name = project.config.project.name
    environments = list(project.config.environments)
    stages = list(project.config.stages)
    if shared.format == "json":
        shared.answer(json.document(project=name, environments=environments, stages=stages))
        return
    shared.answer(
        f"{project.config_path} is valid: project {name}, "
        f"environments {', '.join(environments)}, stages {' → '.join(stages)}\n"
    )
