"""A limit on the processor time of a block: for inputs that must not take for ever.

Processor time, not wall time, so that a busy machine fails no test; and generous, for what it
catches takes hours.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class OverBudget(BaseException):
    """Not an Exception, so that nothing in between takes it for an error of the input."""


@contextmanager
def cpu_seconds(limit: float = 10.0) -> Iterator[None]:
    """Raise OverBudget once the block has used that many seconds of processor time."""

    def over(number: int, frame: FrameType | None) -> NoReturn:
        message = f"more than {limit} s of processor time"
        raise OverBudget(message)

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
