"""A child process that answers one request after the other, through pipes.

It is not started by `subprocess`, which takes longer to import than git
takes to start: a plan asks git, and starts nothing else.
"""

import contextlib
import os
import shutil
import signal
import weakref
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from cipipe.tools.process import ProcessFailed

# What fits into a pipe. Reading it in one go wakes the child up less often.
_PIPE = 65536


class Conversation:
    """A child with a pipe at each of its three streams.

    It stops when its input is closed: by `close`, or when this object is
    garbage.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str]) -> None:
        """Start the child. Raises ToolMissing."""
        self.argv = tuple(argv)
        program = shutil.which(argv[0], path=env.get("PATH", os.defpath))
        if program is None:
            from cipipe.tools.process import ToolMissing

            raise ToolMissing(argv[0])

        their_input, our_input = os.pipe()
        our_output, their_output = os.pipe()
        our_errors, their_errors = os.pipe()
        theirs = (their_input, their_output, their_errors)
        streams = [(os.POSIX_SPAWN_DUP2, pipe, stream) for stream, pipe in enumerate(theirs)]
        try:
            pid = os.posix_spawn(
                program,
                self.argv,
                env,
                file_actions=streams,
                # Python ignores SIGPIPE, and a child would inherit that.
                setsigdef=[signal.SIGPIPE],
            )
        finally:
            for pipe in theirs:
                os.close(pipe)

        self._input = os.fdopen(our_input, "wb")
        self._output = os.fdopen(our_output, "rb", _PIPE)
        self._errors = os.fdopen(our_errors, "rb")
        self.close = weakref.finalize(self, _stop, pid, (self._input, self._output, self._errors))

    def ask(self, request: bytes) -> None:
        """Write a request. Raises ProcessFailed where the child has stopped."""
        try:
            self._input.write(request)
            self._input.flush()
        except BrokenPipeError as error:
            raise self._failure() from error

    def line(self) -> bytes:
        """The next line of the answer, without its end. Raises ProcessFailed."""
        found = self._output.readline()
        if not found.endswith(b"\n"):
            raise self._failure()
        return found[:-1]

    def read(self, size: int) -> bytes:
        """The next bytes of the answer. Raises ProcessFailed."""
        found = self._output.read(size)
        if len(found) != size:
            raise self._failure()
        return found

    def _failure(self) -> "ProcessFailed":
        from cipipe.tools.process import Completed, ProcessFailed

        # Read before `close`, which closes the pipe.
        stderr = self._errors.read()
        return ProcessFailed(Completed(self.argv, self.close() or 0, b"", stderr))


def _stop(pid: int, pipes: Sequence[IO[bytes]]) -> int:
    """Close the pipes, wait for the child, and return its exit code."""
    for pipe in pipes:
        with contextlib.suppress(OSError):
            pipe.close()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
