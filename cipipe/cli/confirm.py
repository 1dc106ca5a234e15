"""Confirmation at a shell.

A person who deploys where a pipeline could not, or to a protected
environment, types the environment's name.
"""

import sys
from collections.abc import Callable
from typing import Any

import click

from cipipe.cli.options import Common
from cipipe.errors import RefusedError
from cipipe.pipeline.session import Session


def yes_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--yes` to a command."""
    text = (
        "From a shell: do not ask before a protected environment, or a ref that deploy_from does "
        "not name."
    )
    return click.option("-y", "--yes", is_flag=True, help=text)(command)


def can_ask() -> bool:
    """Whether there is a terminal on which somebody can answer a question."""
    # The question is printed to standard error, and sys.stdin is None where
    # it was closed.
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def confirm(shared: Common, session: Session, *, yes: bool, named: bool = False) -> None:
    """Ask for the environment's name where that is needed, or refuse where
    nobody can answer.

    `named`: the name was typed already (`destroy --confirm`), so that a
    protected environment needs no more. Raises RefusedError
    `shell-not-confirmed`.
    """
    name = session.environment_name
    reason = _reason(session, named=named)
    if yes or reason is None:
        return
    if not can_ask():
        raise _refused(name, reason)
    shared.console.warning(f"{reason}.")
    typed = click.prompt(f"Type {name} to continue", default="", show_default=False, err=True)
    if typed != name:
        raise _refused(name, f"{reason}, and {typed!r} is not its name" if typed else reason)


def _reason(session: Session, *, named: bool) -> str | None:
    """Why this has to be confirmed; None where it has not."""
    project = session.project
    name = session.environment_name
    environment = session.environment
    context = project.context
    if context.provider != "local":
        return None
    if environment.protected and not named:
        return f"{name} is protected, and this is a shell"
    restricted = environment.deploy_from.branches or environment.deploy_from.tags
    if not restricted or project.may_deploy(name):
        return None
    ref = "this commit, which is on no branch,"
    if context.ref:
        ref = f"{context.ref_type} {context.ref}"
    return f"deploy_from of {name} does not name {ref}"


def _refused(name: str, reason: str) -> RefusedError:
    return RefusedError(
        "shell-not-confirmed",
        f"this was not confirmed: {reason}",
        hint="Pass --yes if you intend to, or let a pipeline deploy.",
        where=f"environments.{name}",
    )
