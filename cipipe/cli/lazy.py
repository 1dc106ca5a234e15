"""Groups of commands, which import each one when it is called, and what they say to a name that is
misspelt.
"""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

import click

_LONGEST = 100
"""Characters of a name that is compared with others: that takes the square of them."""


class Group(click.Group):
    """A group that suggests a command where there is none of the name that it was given."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if (
            not ctx.resilient_parsing
            and not name.startswith("-")
            and self.get_command(ctx, name) is None
        ):
            ctx.fail(f"No such command {name!r}.{self._suggestion(ctx, name)}")
        return super().resolve_command(ctx, args)

    def _suggestion(self, ctx: click.Context, name: str) -> str:
        """A command of that very name in a group below, such as `deploy` in `dags`; else one that
        is spelt nearly so.
        """
        listed = self.list_commands(ctx)
        groups = {group: self.get_command(ctx, group) for group in listed}
        below = [
            g
            for g, c in groups.items()
            if isinstance(c, click.Group) and name in c.list_commands(ctx)
        ]
        meant = f"{below[0]} {name}" if below else near(name, listed)
        return f" Did you mean {meant!r}?" if meant else ""


class Choice(click.Choice):  # type: ignore[type-arg]  # generic since click 8.2 only
    """One of some words; the nearest one is suggested."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            meant = near(str(value), [str(choice) for choice in self.choices])
            if meant is None:
                raise
            raise click.BadParameter(
                f"{error.message} Did you mean {meant!r}?", ctx, param
            ) from None


def near(name: str, known: Iterable[str]) -> str | None:
    """What is spelt most like the name, if anything nearly is."""
    import difflib

    found = (
        difflib.get_close_matches(name.lower(), list(known), n=1) if len(name) <= _LONGEST else []
    )
    return found[0] if found else None


class Lazy(Group):
    """A group whose commands are in modules that are imported one at a time; `where` says
    `MODULE:NAME` of each.
    """

    def __init__(self, *args: Any, where: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._where = where

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(self._where)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self._where:
            return None
        module, _, name = self._where[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command
