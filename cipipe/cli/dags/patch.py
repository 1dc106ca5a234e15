"""`cipipe dags patch`: without configuration, git and AWS."""

from pathlib import Path

import click
import msgspec

from cipipe.cli.options import Common, common
from cipipe.report import json
from cipipe.stages.dags import local
from cipipe.terminal import visible

_PATH = click.Path(path_type=Path)


@click.command
# Nothing here calls AWS, so that `--sandbox` would have no meaning.
@common(sandbox=False)
@click.option("--source", type=_PATH, metavar="DIR", required=True, help="The DAG files.")
@click.option(
    "--outputs", type=_PATH, metavar="FILE", required=True, help="From `terraform output -json`."
)
@click.option("--out", type=_PATH, metavar="DIR", required=True, help="Where to write them.")
def patch(shared: Common, source: Path, outputs: Path, out: Path) -> None:
    """Put Terraform's outputs into the marked literals of DAG files. Needs
    neither cipipe.toml nor AWS.
    """
    made = local.patch_folder(source, outputs, out)
    for warning in made.warnings:
        shared.console.warning(f"{visible(warning.where)}: {warning.message}")
    if shared.format == "json":
        replacements = msgspec.to_builtins(made.replacements)
        shared.answer(json.document(files=made.files, replacements=replacements))
        return

    lines = [
        f"{visible(r.file)}:{r.line}: {r.name} = {r.new}  (output {r.output})\n"
        for r in made.replacements
    ]
    lines.append(
        f"{made.files} files written to {visible(str(out))},"
        f" {len(made.replacements)} literals replaced\n"
    )
    shared.answer("".join(lines))
