"""Signals as an interactive shell starts a program with them, however the tests were started."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from cipipe.interrupt import SIGNALS


@contextmanager
def heard() -> Iterator[None]:
    """While this lasts, no signal that cipipe handles is ignored, nor by a process started in it.

    `nohup` ignores SIGHUP, and a shell's background jobs ignore SIGINT. A program keeps ignoring
    what its parent ignored, so a test of these signals must not inherit that.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
