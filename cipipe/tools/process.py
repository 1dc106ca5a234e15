"""Child processes: argument lists, an explicit environment, no shell.

Everything but git's `conversation` is started here. When this process is
interrupted, a child gets SIGTERM and is waited for: Terraform then releases
its lock.
"""

import contextlib
import os
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

from cipipe import bounded
from cipipe.errors import StageError
from cipipe.interrupt import Interrupt
from cipipe.redact import Redactor
from cipipe.tools.process_errors import (
    TAIL,
    Completed,
    ProcessFailed,
    ToolMissing,
    ending,
    not_started,
    without_json,
)

__all__ = [
    "Completed",
    "Lifetime",
    "ProcessFailed",
    "Service",
    "ToolMissing",
    "Watch",
    "document",
    "ending",
    "run",
    "start",
    "stream",
    "without_json",
]

# Seconds that processes which a child left behind may keep its output open.
_LINGER = 10.0

# Seconds that a child has to stop cleanly, before a further interrupt is
# passed on to it.
_GRACE = 15.0


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """How a long-running child is watched."""

    # Masks secrets in its output.
    redactor: Redactor = msgspec.field(default_factory=Redactor)
    # Stops it.
    interrupt: Interrupt = msgspec.field(default_factory=Interrupt)


class Lifetime(msgspec.Struct, frozen=True, kw_only=True):
    """How a service is tied to this process and its files."""

    # Its standard input is a pipe that closes when this process is gone,
    # for whatever reason. The service has to watch it.
    attached: bool = False
    # Linux stops it (SIGTERM) when this process is gone. Start it from the
    # main thread: the kernel ties it to the life of the thread.
    guarded: bool = False
    # File descriptors that it inherits, such as a lock that it has for as
    # long as it lives.
    keep: tuple[int, ...] = ()


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: bytes | None = None,
    check: bool = True,
    redactor: Redactor | None = None,
) -> Completed:
    """Run a short command and return its output, which no error quotes.

    Raises ProcessFailed (where `check` is true), ToolMissing.
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
        raise not_started(argv, cwd, error) from error
    completed = Completed(tuple(argv), done.returncode, done.stdout, done.stderr)
    if check and completed.returncode != 0:
        raise ProcessFailed(msgspec.structs.replace(completed, stdout=b""), redactor)
    return completed


def document(done: Completed, shape: Any = Any) -> Any:
    """Decode the JSON that a command printed, as a `shape`.

    Secrets may be in there in the clear, so no error quotes it. Raises
    StageError.
    """
    try:
        return bounded.decode(done.stdout, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError):
        command = " ".join(done.argv)
        raise StageError(
            "tool-failed",
            f"`{command}` did not print the JSON that it should",
            hint=f"Run it by hand, and check which {done.argv[0]} is in PATH: its output is "
            "incomplete, or another program's.",
        ) from None


def stream(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    line: Callable[[str], None],
    cwd: Path | None = None,
    accept: Iterable[int] = (0,),
    watch: Watch | None = None,
) -> Completed:
    """Run a long command, and pass each line of its output (both streams,
    masked) to `line`.

    An interrupt sends the child SIGTERM and waits for it; then
    KeyboardInterrupt is raised. It comes from the watch, or, in the main
    thread, as KeyboardInterrupt. Processes that the child leaves behind are
    stopped soon after. Raises ProcessFailed, ToolMissing.
    """
    watch = watch or Watch()
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
            # A group of its own: a terminal's Ctrl-C reaches this process
            # only, which passes it on.
            start_new_session=True,
        )
    except OSError as error:
        raise not_started(argv, cwd, error) from error

    assert child.stdout is not None  # noqa: S101 - PIPE was requested
    stop = _Stop(child)
    pump = _Pump(child.stdout, watch.redactor, line)
    try:
        pump.start()
        with watch.interrupt.stopping(stop):
            returncode = child.wait()
            _drain(child, pump, _LINGER)
    except BaseException:
        stop.and_wait()
        if pump.ident is not None:
            _drain(child, pump, 0)
        raise

    if pump.failed is not None:
        raise pump.failed
    completed = Completed(tuple(argv), returncode, "\n".join(pump.tail).encode(), b"")
    if returncode not in accept:
        raise ProcessFailed(completed, watch.redactor, quoted=completed.stdout)
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
        """Stop it (SIGTERM), or after `timeout` seconds its whole process
        group (SIGKILL).

        Returns its exit status.
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
        """Leave it running. An attached one still stops when this process is gone."""
        # Otherwise Popen warns that it was never waited for.
        self._child.returncode = 0
        _released.append(self._child.stdin)

    def tail(self) -> str:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.strip().splitlines()[-TAIL:])


# The pipes of attached services that were released. They stay open until
# this process is gone.
_released: list[IO[bytes] | None] = []


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    cwd: Path | None = None,
    lifetime: Lifetime | None = None,
) -> Service:
    """Start a service in its own session, with its output (both streams)
    appended to `log`.

    Raises ToolMissing.
    """
    lifetime = lifetime or Lifetime()
    # Popen would find the guard's Python, and only a log file would say
    # what is missing.
    if not shutil.which(argv[0], path=env.get("PATH", os.defpath)):
        raise not_started(argv, cwd)

    guard: list[str] = []
    if lifetime.guarded and sys.platform == "linux":
        guard = [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid())]
    with log.open("ab") as output:
        child = subprocess.Popen(
            [*guard, *argv],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE if lifetime.attached else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=lifetime.keep,
        )
    return Service(argv, child, log)


# prctl(PR_SET_PDEATHSIG, SIGTERM) survives exec. Set between fork and exec
# of a process with threads it could deadlock, so a small program sets it in
# the new process and becomes the service.
_GUARD = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that started this one is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class _Stop:
    """Stops a child.

    Terraform reads a second signal as "at once, whatever is lost". CI
    runners send a second one after seconds, so one is passed on only after
    a grace period.
    """

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self._child = child
        # When it got the first signal.
        self._signalled: float | None = None

    def __call__(self) -> None:
        if self._child.returncode is not None:
            _signal_group(self._child, signal.SIGTERM)
            return
        now = time.monotonic()
        if self._signalled is None or now - self._signalled > _GRACE:
            self._signalled = self._signalled or now
            self._child.send_signal(signal.SIGTERM)

    def and_wait(self) -> None:
        """Wait for it too, and stop what it left behind."""
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
    """Read the rest of the output; stop whoever is left of the child's group and keeps it open."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        pump.join(patience)
        if not pump.is_alive():
            return
        _signal_group(child, number)
        patience = 5.0
    # A process that left the group cannot be reached. Nobody reads its
    # output any more.
    pump.join(1.0)


class _Pump(threading.Thread):
    """Passes each line of a child's output to `line`.

    Where that fails, it goes on reading: the child would wait forever for
    room in the pipe.
    """

    def __init__(self, output: IO[str], redactor: Redactor, line: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self._output = output
        self._redactor = redactor
        self._line = line
        # The last lines, for an error to quote.
        self.tail: list[str] = []
        self.failed: Exception | None = None

    def run(self) -> None:
        with self._output:
            for text in self._redactor.lines(iter(self._output)):
                self.tail.append(text)
                del self.tail[: -10 * TAIL]
                if self.failed is None:
                    try:
                        self._line(text)
                    except Exception as error:  # noqa: BLE001 - `stream` raises it
                        self.failed = error
