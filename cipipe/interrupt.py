"""Ctrl-C for work that is spread over threads: Python tells the main thread alone.

`attend` does the work in a thread while the main thread waits for signals. Whatever blocks for long
either registers what ends it (`stopping`), or asks (`check`, `sleep`); both raise KeyboardInterrupt
there, as it would be in one thread.
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
    """Whether the work is to end. `trigger` may be called again: whoever is impatient presses
    Ctrl-C twice.
    """

    def __init__(self) -> None:
        self._happened = threading.Event()
        self._lock = threading.Lock()
        self._stops: list[Callable[[], None]] = []

    @property
    def happened(self) -> bool:
        return self._happened.is_set()

    def trigger(self) -> None:
        self._happened.set()
        with self._lock:
            stops = list(self._stops)
        for stop in stops:
            stop()

    def check(self) -> None:
        """Raise KeyboardInterrupt if the work is to end."""
        if self.happened:
            raise KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        """Wait; an interrupt ends it with KeyboardInterrupt."""
        if self._happened.wait(seconds):
            raise KeyboardInterrupt

    def waiter(self) -> Callable[[float], None]:
        """How a request waits between its attempts; ask for it when the request starts.

        An interrupt cuts the wait short, with KeyboardInterrupt. A request that starts after the
        interrupt belongs to what cleans up, and waits all the same.
        """
        return time.sleep if self.happened else self.sleep

    @contextlib.contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """While this lasts, each interrupt calls `stop`, from another thread. What that breaks is
        KeyboardInterrupt here.
        """
        with self._lock:
            self._stops.append(stop)
        try:
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
    """Do `work` in a thread, and have signals trigger `interrupt` meanwhile; they raise nothing
    here until it has ended.

    Called elsewhere than in the main thread, which alone may set handlers, it leaves signals to
    whoever has them.
    """
    from concurrent.futures import ThreadPoolExecutor  # a plan does without them
    from queue import SimpleQueue

    told: SimpleQueue[bool] = (
        SimpleQueue()
    )  # whose `put` may be called in a signal handler, in the middle of anything

    def handler(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        told.put(False)

    with _handled(handler), ThreadPoolExecutor(1, thread_name_prefix="work") as pool:
        future = pool.submit(work)
        future.add_done_callback(lambda _: told.put(True))
        while not told.get():
            interrupt.trigger()
        return future.result()


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = [
        number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
    ]  # as under nohup
    before = {number: signal.signal(number, handler) for number in wanted}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
