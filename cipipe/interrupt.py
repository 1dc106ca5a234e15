"""Ctrl-C for work in several threads: Python raises KeyboardInterrupt in
the main thread only.

`attend` does the work in a thread while the main thread waits for signals.
Code that blocks for long either registers how to stop it (`stopping`) or
looks itself (`check`, `sleep`); both raise KeyboardInterrupt there, as in a
program of one thread.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """Whether the work has to stop. `trigger` may be called again: people press Ctrl-C twice."""

    def __init__(self) -> None:
        self._happened = threading.Event()
        self._lock = threading.Lock()
        self._stops: list[Callable[[], None]] = []

    @property
    def happened(self) -> bool:
        return self._happened.is_set()

    def trigger(self) -> None:
        """Stop the work. May be called from any thread."""
        self._happened.set()
        with self._lock:
            stops = list(self._stops)
        for stop in stops:
            stop()

    def check(self) -> None:
        """Raise KeyboardInterrupt if the work has to stop."""
        if self.happened:
            raise KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        """Wait. An interrupt cuts it short, with KeyboardInterrupt."""
        if self._happened.wait(seconds):
            raise KeyboardInterrupt

    def waiter(self) -> Callable[[float], None]:
        """What a request, which starts now, waits with between its
        attempts.

        An interrupt cuts the wait short, with KeyboardInterrupt. A request
        that starts after the interrupt is part of cleaning up, and waits in
        full.
        """
        return time.sleep if self.happened else self.sleep

    @contextlib.contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """Call `stop` on each interrupt during the block, from another
        thread. What fails because of it becomes KeyboardInterrupt here.
        """
        with self._lock:
            self._stops.append(stop)
        try:
            # It may have happened before `stop` was registered.
            self.check()
            yield
        except Exception:
            self.check()
            raise
        finally:
            with self._lock:
                self._stops.remove(stop)
        self.check()


def attend(interrupt: Interrupt, work: Callable[[], T]) -> T:
    """Do `work` in a thread. Signals trigger `interrupt` meanwhile, and
    raise nothing here.

    Only the main thread may set signal handlers: in another one, signals
    stay as they are.
    """
    from concurrent.futures import ThreadPoolExecutor  # a plan does without them
    from queue import Empty, SimpleQueue

    # False for a signal, True for the end of the work. A SimpleQueue,
    # because its `put` may be called in a signal handler, in the middle of
    # anything.
    events: SimpleQueue[bool] = SimpleQueue()

    def handler(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        events.put(False)

    def done() -> bool:
        # Python runs no handler for a signal that arrives in the instant
        # before `get` starts to block, until `get` returns: so it returns
        # now and then.
        while True:
            with contextlib.suppress(Empty):
                return events.get(timeout=0.5)

    with _handled(handler), ThreadPoolExecutor(1, thread_name_prefix="work") as pool:
        future = pool.submit(work)
        future.add_done_callback(lambda _: events.put(True))
        while not done():
            interrupt.trigger()
        return future.result()


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    # What the parent ignored stays ignored: SIGHUP under nohup, SIGINT in a
    # shell's background.
    wanted = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in wanted}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
