"""The command line: the only place that reads os.environ, prints, and
exits.

Commands are imported when they are called, so that `cipipe plan --offline`
imports neither boto3 nor docker.
"""

import os
import signal
import sys
from collections.abc import Mapping
from itertools import pairwise
from types import FrameType
from typing import Any

import click

from cipipe import __version__, machine
from cipipe.cli.console import Console
from cipipe.cli.lazy import Lazy
from cipipe.errors import CipipeError, InterruptedRun, UsageError
from cipipe.pace import USUAL, Pace

COMMANDS = {
    "bootstrap": "cipipe.cli.bootstrap:bootstrap",
    "check": "cipipe.cli.check:check",
    "dags": "cipipe.cli.dags:dags",
    "destroy": "cipipe.cli.destroy:destroy",
    "doctor": "cipipe.cli.doctor:doctor",
    "drift": "cipipe.cli.drift:drift",
    "iac": "cipipe.cli.iac:iac",
    "image": "cipipe.cli.image:image",
    "init": "cipipe.cli.init:init",
    "oidc": "cipipe.cli.oidc:oidc",
    "plan": "cipipe.cli.plan:plan",
    "run": "cipipe.cli.run:run",
    "sandbox": "cipipe.cli.sandbox:sandbox",
    "schema": "cipipe.cli.schema:schema",
    "status": "cipipe.cli.status:status",
}


@click.group(cls=Lazy, where=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cipipe", message="%(prog)s %(version)s")
def group() -> None:
    """Deploy dbt on Fargate under Airflow from GitLab or GitHub.

    `cipipe plan` shows what a pipeline would do; it changes nothing and
    needs no credentials.
    """


def main(
    argv: list[str] | None = None, env: Mapping[str, str] | None = None, pace: Pace = USUAL
) -> int:
    """Run a command line and return its exit status. `env` is the
    environment, if it is not this process's own.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Under nohup, SIGHUP is ignored and has to stay so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)
    arguments = sys.argv[1:] if argv is None else argv
    console = Console(os.environ if env is None else env, machine=_wants_json(arguments), pace=pace)
    with console.log.in_place():
        return _run(arguments, console)


def _run(arguments: list[str], console: Console) -> int:
    try:
        answer: Any = group.main(
            args=arguments, prog_name="cipipe", standalone_mode=False, obj=console
        )
    except CipipeError as error:
        console.error(error)
        return error.exit_status
    except click.UsageError as error:
        if error.ctx is not None and _is_bare_group(error):
            console.answer(error.ctx.get_help() + "\n")
            return 0
        hint = f"See `{error.ctx.command_path} --help`." if error.ctx else None
        wrong = UsageError("usage", error.format_message(), hint=hint)
        console.error(wrong)
        return wrong.exit_status
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _interrupted(console)
    except OSError as error:
        refusal = machine.fault(error)
        if refusal is None:
            console.bug()
            return 1
        console.error(refusal)
        return refusal.exit_status
    except Exception as error:  # noqa: BLE001 - a bug of ours, which is printed with its traceback
        # Python 3.11 turns a signal that arrives while a class is created,
        # as in an import, into a RuntimeError.
        if isinstance(error.__cause__, KeyboardInterrupt):
            return _interrupted(console)
        console.bug()
        return 1
    return answer if isinstance(answer, int) else 0


def _interrupted(console: Console) -> int:
    stopped = InterruptedRun("interrupted", "interrupted")
    console.error(stopped)
    return stopped.exit_status


def _is_bare_group(error: click.UsageError) -> bool:
    """Whether a group was called without a command, which prints its help.

    Before 8.2, click does that by itself.
    """
    return isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ()))


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


def _wants_json(arguments: list[str]) -> bool:
    # Its standard output is read by AWS's tools: credentials, or nothing.
    if "credential-process" in arguments:
        return False
    pairs = pairwise([*arguments, ""])
    return any(a == "--format=json" or (a, b) == ("--format", "json") for a, b in pairs)
