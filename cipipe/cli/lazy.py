"""Groups of commands that import each command when it is called, and suggest one for a typo."""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

import click

# Characters. Comparing a longer name takes too long: it grows with the
# square of the length.
_LONGEST = 100


class Group(click.Group):
    """A group that suggests a command where the name is unknown."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        is_option = name.startswith("-")
        if not ctx.resilient_parsing and not is_option and self.get_command(ctx, name) is None:
            ctx.fail(f"No such command {name!r}.{self._suggestion(ctx, name)}")
        return super().resolve_command(ctx, args)

    def _suggestion(self, ctx: click.Context, name: str) -> str:
        """The command of that name in a group below (`deploy` in `dags`), or a similar one."""
        listed = self.list_commands(ctx)
        for group in listed:
            command = self.get_command(ctx, group)
            if isinstance(command, click.Group) and name in command.list_commands(ctx):
                return f" Did you mean '{group} {name}'?"
        similar = near(name, listed)
        return f" Did you mean {similar!r}?" if similar else ""


class Choice(click.Choice):  # type: ignore[type-arg]  # generic since click 8.2 only
    """One of some words. The nearest one is suggested for another word."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            similar = near(str(value), [str(choice) for choice in self.choices])
            if similar is None:
                raise
            message = f"{error.message} Did you mean {similar!r}?"
            raise click.BadParameter(message, ctx, param) from None


def near(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar, if one is similar enough."""
    if len(name) > _LONGEST:
        return None
    import difflib

    found = difflib.get_close_matches(name.lower(), list(known), n=1)
    return found[0] if found else None


class Lazy(Group):
    """A group whose commands are imported one at a time.

    `where` has `MODULE:NAME` for the name of each command.
    """

    def __init__(self, *args: Any, where: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._where = where

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(self._where)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in self._where:
            return None
        module, _, name = self._where[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command
