"""`cipipe bootstrap`."""

import click

from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.pipeline.bootstrap import account as use_case
from cipipe.report import json


@click.command
@common()
def bootstrap(shared: Common) -> None:
    """Create what an account needs before its first pipeline: bucket, OIDC providers, roles. Safe
    to repeat.
    """
    project = shared.project()
    name = project.environment_name(shared.environment)
    with sandboxed(shared, project, name, bootstrap=False) as target:
        outputs = use_case.bootstrap(
            project,
            name,
            redactor=shared.console.redactor,
            line=shared.console.say,
            warning=shared.console.warning,
            target=target,
        )
    if shared.format == "json":
        shared.answer(json.document(environment=name, outputs=outputs))
    else:
        shared.answer(
            "".join(
                f"{key} = {value}\n" for key, value in sorted(outputs.items()) if value is not None
            )
        )
