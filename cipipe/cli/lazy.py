"""A group of commands that imports each one when it is called."""

import importlib
from collections.abc import Mapping
from typing import Any

import click


class Lazy(click.Group):
    """A group whose commands are in modules that are imported one at a time; `where` says `MODULE:NAME` of each."""

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
