"""`cipipe bootstrap`."""

import click

from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.pipeline.bootstrap import account as use_case
from cipipe.report import json


@click.command
@common()
def bootstrap(shared: Common) -> None:
    """Create what an account needs before its first pipeline: bucket, OIDC
    providers, roles.

    Safe to repeat.
    """
    with sandboxed(shared, shared.session(), bootstrap=False) as session:
        outputs = use_case.bootstrap(session)
    if shared.format == "json":
        shared.answer(json.document(environment=session.environment_name, outputs=outputs))
        return
    known = {key: value for key, value in sorted(outputs.items()) if value is not None}
    shared.answer("".join(f"{key} = {value}\n" for key, value in known.items()))
