"""A child that is asked again and again: what is written to its input, and read from its output.

Not by `subprocess`, which takes longer to import than git takes to start: a plan asks git, and
starts nothing else.
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


_PIPE = 65536
"""What fits into a pipe: to take it in one go wakes the child up less often."""


class Conversation:
    """A child with a pipe at each of its three streams. It ends when its input is closed: by
    `close`, or with the object.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str]) -> None:
        """Raises ToolMissing."""
        self.argv = tuple(argv)
        program = shutil.which(argv[0], path=env.get("PATH", os.defpath))
        if program is None:
            from cipipe.tools.process import ToolMissing

            raise ToolMissing(argv[0])
        (their_input, our_input), (our_output, their_output), (our_errors, their_errors) = (
            os.pipe() for _ in range(3)
        )
        theirs = (their_input, their_output, their_errors)
        try:
            pid = os.posix_spawn(
                program,
                self.argv,
                env,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, pipe, stream) for stream, pipe in enumerate(theirs)
                ],
                setsigdef=[
                    signal.SIGPIPE
                ],  # which Python ignores, and a child would go on ignoring
            )
        finally:
            for pipe in theirs:
                os.close(pipe)
        self._input, self._output = os.fdopen(our_input, "wb"), os.fdopen(our_output, "rb", _PIPE)
        self._errors = os.fdopen(our_errors, "rb")
        self.close = weakref.finalize(self, _end, pid, (self._input, self._output, self._errors))

    def ask(self, request: bytes) -> None:
        """Write a request. Raises ProcessFailed where the child has ended."""
        try:
            self._input.write(request)
            self._input.flush()
        except BrokenPipeError as error:
            raise self._ended() from error

    def line(self) -> bytes:
        """The next line of the answer, without its end."""
        found = self._output.readline()
        if not found.endswith(b"\n"):
            raise self._ended()
        return found[:-1]

    def read(self, size: int) -> bytes:
        """The next bytes of the answer."""
        found = self._output.read(size)
        if len(found) != size:
            raise self._ended()
        return found

    def _ended(self) -> "ProcessFailed":
        from cipipe.tools.process import Completed, ProcessFailed

        said = self._errors.read()
        return ProcessFailed(Completed(self.argv, self.close() or 0, b"", said))


def _end(pid: int, pipes: Sequence[IO[bytes]]) -> int:
    for pipe in pipes:
        with contextlib.suppress(OSError):
            pipe.close()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
