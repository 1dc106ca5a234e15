"""The one place that starts processes (but git's `conversation`). Argument lists, an explicit
environment, no shell.

A child is sent SIGTERM when this process is interrupted, and is waited for: Terraform then releases
its lock.
"""

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from cipipe import bounded, machine
from cipipe.errors import StageError
from cipipe.interrupt import Interrupt
from cipipe.redact import Redactor
from cipipe.terminal import plain

_TAIL = 20
# A line that opens or closes an object or list, or holds a key or a value of one.
_JSON = re.compile(
    r"""\s*(?:[\[{]\s*(?:["\[{\]}]|$)|[\]}],?\s*$|"(?:[^"\\]|\\.)*+"\s*(?::|,?\s*$)|(?:-?\d[\d.eE+-]*|true|false|null),?\s*$)"""
)

_LINGER = 10.0
"""Seconds that what a child left running may go on: it keeps the output open."""

_GRACE = 15.0
"""Seconds that a child has to stop in peace, before a further interrupt reaches it."""


class Completed(msgspec.Struct, frozen=True):
    """A child that has ended. `returncode` is negative where a signal ended it."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes


class ProcessFailed(StageError):
    """A child ended with a status that its caller did not expect.

    The message quotes standard error, but for lines of JSON. Standard output only where the caller
    says so, in `quoted`: what a tool prints for a program to read may hold secrets that nobody has
    registered yet.
    """

    def __init__(
        self, completed: Completed, redactor: Redactor | None = None, *, quoted: bytes | None = None
    ) -> None:
        redact = redactor.text if redactor else str
        self.completed = completed
        said = (completed.stderr if quoted is None else quoted).decode(errors="replace")
        text = plain(redact(without_json(said) if quoted is None else said)).strip()
        tail = "\n".join(redact(text).splitlines()[-_TAIL:])
        whose = "The lines above are the tool's own" if tail else "The tool gave no reason"
        if completed.returncode == -signal.SIGKILL:
            whose += "; SIGKILL is often the kernel's, for lack of memory"
        super().__init__(
            "tool-failed",
            f"{Path(completed.argv[0]).name} {ending(completed.returncode)}"
            + (f":\n{tail}" if tail else ""),
            hint=f"{whose}. The command was: " + redact(" ".join(completed.argv)),
        )


def ending(returncode: int) -> str:
    """How a child ended, in words."""
    if returncode >= 0:
        return f"ended with exit status {returncode}"
    try:
        return f"was ended by {signal.Signals(-returncode).name}"
    except ValueError:  # a real-time signal
        return f"was ended by signal {-returncode}"


class ToolMissing(StageError):
    def __init__(self, name: str) -> None:
        super().__init__(
            "tool-missing",
            f"{name} is not installed on this machine",
            hint=f"Install {name}, or put it into PATH.",
        )
        self.tool = name


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: bytes | None = None,
    check: bool = True,
    redactor: Redactor | None = None,
) -> Completed:
    """Run a short command to its end and give its output, which no error quotes. Raises
    ProcessFailed, ToolMissing.
    """
    try:
        done = subprocess.run(
            list(argv),
            env=dict(env),
            cwd=cwd,
            input=stdin if stdin is not None else b"",
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise _not_started(argv, cwd, error) from error
    completed = Completed(tuple(argv), done.returncode, done.stdout, done.stderr)
    if check and completed.returncode != 0:
        raise ProcessFailed(msgspec.structs.replace(completed, stdout=b""), redactor)
    return completed


def document(done: Completed, shape: Any = Any) -> Any:
    """The JSON that a command printed, as a `shape`. Nothing of it is quoted: secrets stand in it
    as they are.
    """
    try:
        return bounded.decode(done.stdout, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError):
        command = " ".join(done.argv)
        raise StageError(
            "tool-failed",
            f"`{command}` did not print the JSON that was asked for",
            hint=f"Run it by hand, and check which {done.argv[0]} PATH finds: its output ends early or is another's.",
        ) from None


def without_json(text: str) -> str:
    """A message without the lines that are JSON: a command that fails may print its answer where
    its errors go.
    """
    return "\n".join(line for line in text.splitlines() if not _JSON.match(plain(line)))


def stream(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    line: Callable[[str], None],
    cwd: Path | None = None,
    redactor: Redactor | None = None,
    accept: Iterable[int] = (0,),
    interrupt: Interrupt | None = None,
) -> Completed:
    """Run a long command, giving each line of its output (both streams, masked) to `line` as it
    comes.

    An interrupt sends the child SIGTERM and waits for it; then KeyboardInterrupt is raised. It
    comes from `interrupt`, or, in the main thread, as KeyboardInterrupt. What the child leaves
    running when it ends is ended soon after.
    """
    redactor = redactor or Redactor()
    try:
        child = subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise _not_started(argv, cwd, error) from error
    assert child.stdout is not None  # noqa: S101 - PIPE was asked for
    stop = _Stop(child)
    pump = _Pump(child.stdout, redactor, line)
    try:
        pump.start()
        with (interrupt or Interrupt()).stopping(stop):
            returncode = child.wait()
            _drain(child, pump, _LINGER)
    except BaseException:
        stop.to_the_end()
        if pump.ident is not None:
            _drain(child, pump, 0)
        raise
    if pump.failed is not None:
        raise pump.failed
    completed = Completed(tuple(argv), returncode, "\n".join(pump.tail).encode(), b"")
    if returncode not in accept:
        raise ProcessFailed(completed, redactor, quoted=completed.stdout)
    return completed


class Service:
    """A child that runs until it is stopped. Its output goes to a log file."""

    def __init__(self, argv: Sequence[str], child: "subprocess.Popen[bytes]", log: Path) -> None:
        self.argv = tuple(argv)
        self.log = log
        self._child = child

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._child.poll()

    def stop(self, timeout: float = 10.0) -> int:
        """Ask it to end (SIGTERM), wait, end it with its whole process group (SIGKILL) if need be;
        its exit status.
        """
        if self._child.stdin is not None:
            self._child.stdin.close()
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(self._child.pid, signal.SIGKILL)
        return self._child.wait()

    def release(self) -> None:
        """Leave it running: from now on it is not this process's business (attached, it still ends
        with this one).
        """
        self._child.returncode = 0  # otherwise Popen warns that it was never waited for
        _released.append(self._child.stdin)

    def tail(self) -> str:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.strip().splitlines()[-_TAIL:])


_released: list[IO[bytes] | None] = []
"""The pipes of attached services that were released: they have to stay open until this process
ends.
"""


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    cwd: Path | None = None,
    attached: bool = False,
    guarded: bool = False,
    keep: Sequence[int] = (),
) -> Service:
    """Start a service in its own session, its output (both streams) appended to `log`. Raises
    ToolMissing.

    `attached` gives it a pipe as standard input that closes when this process ends, however it
    ends; the service has to watch it. `guarded` has Linux end it (SIGTERM) when this process ends;
    call from the main thread, to whose life that is tied. `keep` are file descriptors that it
    inherits: a lock it holds for as long as it or a child of it lives.
    """
    if not shutil.which(argv[0], path=env.get("PATH", os.defpath)):
        raise _not_started(argv, cwd)
    guard = (
        [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid())]
        if guarded and sys.platform == "linux"
        else []
    )
    with log.open("ab") as output:
        child = subprocess.Popen(
            [*guard, *argv],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE if attached else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=keep,
        )
    return Service(argv, child, log)


# prctl(PR_SET_PDEATHSIG, SIGTERM) survives exec. Set after a fork from a threaded process it could
# deadlock, so a small program sets it in the new process and becomes the service.
_GUARD = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that started this one is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class _Stop:
    """Tells a child to stop.

    Terraform takes a second signal as "at once, whatever is lost": one is passed on only after a
    grace period, because CI runners send a second one of their own after seconds.
    """

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self._child = child
        self._told: float | None = None

    def __call__(self) -> None:
        if self._child.returncode is not None:
            _signal_group(self._child, signal.SIGTERM)
            return
        now = time.monotonic()
        if self._told is None or now - self._told > _GRACE:
            self._told = self._told or now
            self._child.send_signal(signal.SIGTERM)

    def to_the_end(self) -> None:
        """Wait for it. What it started and left behind ends too."""
        self()
        while True:
            try:
                self._child.wait()
            except KeyboardInterrupt:
                self()
                continue
            break
        _signal_group(self._child, signal.SIGTERM)


def _signal_group(child: "subprocess.Popen[str]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _drain(child: "subprocess.Popen[str]", pump: threading.Thread, patience: float) -> None:
    """Take the rest of the output. Where somebody keeps it open, whoever is left of the child's
    group is ended.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        pump.join(patience)
        if not pump.is_alive():
            return
        _signal_group(child, number)
        patience = 5.0
    pump.join(
        1.0
    )  # a process that has left the group cannot be reached: its output is nobody's any more


class _Pump(threading.Thread):
    """Gives each line of a child's output to `line`. Where that fails, the child is still read,
    lest it wait for ever.
    """

    def __init__(self, output: IO[str], redactor: Redactor, line: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.tail: list[str] = []
        self.failed: Exception | None = None
        self._output, self._redactor, self._line = output, redactor, line

    def run(self) -> None:
        with self._output:
            for text in self._redactor.lines(iter(self._output)):
                self.tail.append(text)
                del self.tail[: -10 * _TAIL]
                if self.failed is None:
                    try:
                        self._line(text)
                    except Exception as error:  # noqa: BLE001 - raised where the child is waited for
                        self.failed = error


def _not_started(argv: Sequence[str], cwd: Path | None, error: OSError | None = None) -> StageError:
    if cwd is not None and not cwd.is_dir():
        return StageError(
            "folder-missing", f"there is no folder {os.fspath(cwd)}", where=os.fspath(cwd)
        )
    if error is None or isinstance(error, FileNotFoundError):
        return ToolMissing(argv[0])
    if error.errno != errno.EACCES and (refusal := machine.fault(error)):
        return refusal
    return StageError(
        "tool-missing",
        f"{argv[0]} cannot be run: {error.strerror}",
        hint="A script needs `#!` in its first line, and the executable bit: git update-index --chmod=+x FILE.",
    )
