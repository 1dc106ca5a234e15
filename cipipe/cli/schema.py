"""`cipipe schema`."""

import click
import msgspec

from cipipe.cli.options import Common, common


@click.command
@common(formats=("json",), sandbox=False)
def schema(shared: Common) -> None:
    """Print the JSON Schema of cipipe.toml, for editors and validators."""
    from cipipe.config.schema import schema as made

    encoded = msgspec.json.encode(made())
    shared.answer(msgspec.json.format(encoded, indent=2).decode() + "\n")
