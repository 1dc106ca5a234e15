"""dbt's processes: one at a time, what they print, and how they are stopped."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from dbt_runtime.log import Log


class Stopped(Exception):
    """SIGTERM or SIGINT came. No further step starts."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Processes:
    """Starts processes, and passes a signal to the one that is running.

    dbt cancels its queries on SIGINT, but not on SIGTERM, so it gets SIGINT for both.
    """

    def __init__(self, log: Log, grace: float) -> None:
        self._log = log
        # Seconds from the signal to SIGKILL.
        self._grace = grace
        self._running: subprocess.Popen[str] | None = None
        self._signal = 0
        self._interrupted = False

    def install(self) -> None:
        """Handle SIGTERM and SIGINT from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    @property
    def stopped_by(self) -> int:
        """The signal that came first; 0 without one."""
        return self._signal

    def run(self, argv: Sequence[str], env: Mapping[str, str], folder: Path) -> int:
        """Run a process to its end and pass on what it prints. Returns its exit code: 128 plus
        the signal's number if one killed it, 127 if there is no such program, 126 if it cannot
        be started.

        Raises Stopped if a signal came before it started.
        """
        if self._is_stopping():
            raise Stopped(self._signal)
        try:
            # A session of its own: a signal from a terminal reaches it through us only.
            self._running = subprocess.Popen(
                list(argv),
                cwd=folder,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="backslashreplace",
                start_new_session=True,
            )
        except OSError as error:
            self._log.event("error", message=f"{argv[0]} cannot be started: {error.strerror}")
            return 127 if isinstance(error, FileNotFoundError) else 126

        process = self._running
        # A signal may have come while the process was being started.
        if self._is_stopping():
            self._interrupt(process)
        for line in process.stdout or ():
            self._log.line(line.rstrip("\r\n"))
        code = process.wait()
        self._running = None
        _reap()
        return code if code >= 0 else 128 - code

    def _is_stopping(self) -> bool:
        return self._signal != 0

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self._signal:
            return
        self._signal = number
        if self._running is not None:
            self._interrupt(self._running)

    def _interrupt(self, process: "subprocess.Popen[str]") -> None:
        # A second SIGINT would end dbt before it has cancelled its queries.
        if self._interrupted:
            return
        self._interrupted = True
        _send(process, signal.SIGINT)
        killer = threading.Timer(self._grace, _send, (process, signal.SIGKILL))
        killer.daemon = True
        killer.start()


def _send(process: "subprocess.Popen[str]", number: int) -> None:
    # The group, because dbt may have started processes of its own.
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _reap() -> None:
    """Collect orphans, which the kernel gives to the container's first process."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return
