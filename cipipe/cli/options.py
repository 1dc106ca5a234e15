"""Options that several commands share, and the session that is made of them."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from cipipe.cli.console import Console
from cipipe.cli.lazy import Choice
from cipipe.pipeline.project import Project, load
from cipipe.pipeline.session import Session
from cipipe.report import text

# The formats that are JSON documents.
_JSON = ("json", "gitlab")


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """The common options of one command line."""

    console: Console
    # What --env names; None for the environment of this ref.
    environment: str | None
    config: Path | None
    format: str
    # The file to write the answer into, instead of standard output.
    output: Path | None
    sandbox: bool

    def project(self) -> Project:
        return load(Path.cwd(), self.console.env, self.config)

    def session(self) -> Session:
        """The session of this command line. `sandboxed` adds the sandbox to it."""
        return self.session_in(self.project(), self.environment)

    def session_in(self, project: Project, environment: str | None) -> Session:
        """The session in a project that was loaded already, in the wanted environment."""
        name = project.environment_name(environment)
        return Session(
            project=project.at(name),
            environment_name=name,
            redactor=self.console.redactor,
            progress=self.console,
            say=self.console.say,
            detail=self.console.detail,
            pace=self.console.pace,
        )

    def answer(self, text: str, *, json: bool = False) -> None:
        """Print the answer. `json` says that it is JSON, whatever the format is called."""
        self.console.answer(text, self.output, json=json or self.format in _JSON)

    @property
    def style(self) -> Callable[[str, str], str]:
        return text.plain if self.output else self.console.style


def common(
    *, formats: tuple[str, ...] = ("text", "json"), sandbox: bool = True
) -> Callable[[Any], Any]:
    """Add the common options to a command, which is called with a Common in their place."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(
            "--env",
            "environment",
            metavar="NAME",
            help="The environment. Default: the one of this ref.",
        )
        @click.option(
            "--config",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Instead of cipipe.toml.",
        )
        @click.option(
            "--format", "format_", type=Choice(formats), default=formats[0], show_default=True
        )
        @click.option(
            "--output",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Write the answer into FILE.",
        )
        @click.option(
            "--no-color", is_flag=True, help="No colour, even on a terminal (also: NO_COLOR)."
        )
        @click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
        @click.option("-v", "--verbose", count=True, help="More on standard error.")
        @click.pass_obj
        @functools.wraps(command)
        def wrapped(console: Console, /, **given: Any) -> Any:
            console.no_color = given.pop("no_color") or console.no_color
            quiet = given.pop("quiet")
            verbose = given.pop("verbose")
            console.verbosity = -1 if quiet else verbose
            shared = Common(
                console=console,
                environment=given.pop("environment"),
                config=given.pop("config"),
                format=given.pop("format_"),
                output=given.pop("output"),
                sandbox=given.pop("sandbox", False),
            )
            return command(shared, **given)

        if sandbox:
            text = "Use AWS services on this machine instead of AWS."
            wrapped = click.option("--sandbox", is_flag=True, help=text)(wrapped)
        return wrapped

    return decorate
