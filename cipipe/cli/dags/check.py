"""`cipipe dags check`: without configuration, git and AWS."""

from pathlib import Path

import click

from cipipe.cli.options import Common, common
from cipipe.report import json
from cipipe.stages.dags.local_check import check_folder
from cipipe.terminal import visible


@click.command
# Nothing here calls AWS, so that `--sandbox` would have no meaning.
@common(sandbox=False)
@click.option(
    "--source",
    type=click.Path(path_type=Path),
    metavar="DIR",
    required=True,
    help="The DAG files.",
)
@click.option("--airflow-version", metavar="VERSION", help="The Airflow that runs them.")
def check(shared: Common, source: Path, airflow_version: str | None) -> None:
    """Check markers and DAG files on disk, as a deployment would. Needs
    neither cipipe.toml nor AWS.
    """
    found = check_folder(source, airflow_version=airflow_version)
    for warning in found.warnings:
        shared.console.warning(f"{visible(warning.where)}: {warning.message}")
    if shared.format == "json":
        warnings = [
            {"id": warning.id, "where": warning.where, "message": warning.message}
            for warning in found.warnings
        ]
        shared.answer(json.document(files=found.files, warnings=warnings))
        return
    shared.answer(f"{found.files} files in {visible(str(source))} checked\n")
