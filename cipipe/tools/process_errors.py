"""How a child process failed: it could not be started, or its exit status was unexpected."""

import errno
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import msgspec

from cipipe import machine
from cipipe.errors import StageError
from cipipe.redact import Redactor
from cipipe.terminal import plain

TAIL = 20
"""Lines of output that an error quotes, from the end."""

# A line that opens or closes an object or list, or has a key or a value of
# one.
_JSON = re.compile(
    r"""\s*(?:"""
    r"""[\[{]\s*(?:["\[{\]}]|$)"""
    r"""|[\]}],?\s*$"""
    r"""|"(?:[^"\\]|\\.)*+"\s*(?::|,?\s*$)"""
    r"""|(?:-?\d[\d.eE+-]*|true|false|null),?\s*$"""
    r""")"""
)


class Completed(msgspec.Struct, frozen=True):
    """A child that has finished."""

    argv: tuple[str, ...]
    # Negative where a signal ended it.
    returncode: int
    stdout: bytes
    stderr: bytes


class ProcessFailed(StageError):
    """A child finished with an exit status that its caller did not expect.

    The message quotes standard error, without lines of JSON. It quotes
    standard output only where the caller passes it as `quoted`: what a tool
    prints for a program to read may contain secrets that nobody has
    registered yet.
    """

    def __init__(
        self, completed: Completed, redactor: Redactor | None = None, *, quoted: bytes | None = None
    ) -> None:
        self.completed = completed
        redact = redactor.text if redactor else str
        if quoted is None:
            output = without_json(completed.stderr.decode(errors="replace"))
        else:
            output = quoted.decode(errors="replace")

        # Redacted again without control characters: colour codes may have
        # split a secret.
        text = plain(redact(output)).strip()
        tail = "\n".join(redact(text).splitlines()[-TAIL:])
        source = "The lines above are the tool's own" if tail else "The tool gave no reason"
        if completed.returncode == -signal.SIGKILL:
            source += "; the kernel often sends SIGKILL when memory runs out"

        summary = f"{Path(completed.argv[0]).name} {ending(completed.returncode)}"
        super().__init__(
            "tool-failed",
            f"{summary}:\n{tail}" if tail else summary,
            hint=f"{source}. The command was: " + redact(" ".join(completed.argv)),
        )


class ToolMissing(StageError):
    """A program is not installed, or not in PATH."""

    def __init__(self, name: str) -> None:
        super().__init__(
            "tool-missing",
            f"{name} is not installed on this machine",
            hint=f"Install {name}, or put it into PATH.",
        )
        self.tool = name


def ending(returncode: int) -> str:
    """How a child finished, in words."""
    if returncode >= 0:
        return f"exited with status {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        # A real-time signal has no name.
        return f"was killed by signal {-returncode}"


def without_json(text: str) -> str:
    """The text without lines of JSON.

    A command that fails may print its answer, secrets included, to standard
    error.
    """
    return "\n".join(line for line in text.splitlines() if not _JSON.match(plain(line)))


def not_started(argv: Sequence[str], cwd: Path | None, error: OSError | None = None) -> StageError:
    """The error of a child that could not be started; `error` is None where it is not in PATH."""
    if cwd is not None and not cwd.is_dir():
        return StageError(
            "folder-missing", f"there is no folder {os.fspath(cwd)}", where=os.fspath(cwd)
        )
    if error is None or isinstance(error, FileNotFoundError):
        return ToolMissing(argv[0])
    # A full disk or too many open files is the machine's fault; EACCES is
    # the file's.
    if error.errno != errno.EACCES and (fault := machine.fault(error)):
        return fault
    return StageError(
        "tool-missing",
        f"{argv[0]} cannot be run: {error.strerror}",
        hint="A script needs `#!` in its first line, and the executable bit: "
        "git update-index --chmod=+x FILE.",
    )
