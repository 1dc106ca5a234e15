"""A few S3 requests at a time, in threads."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

_AT_ONCE = 8

T = TypeVar("T")


class Throttled:
    """Calls a function at most once in some seconds: that one costs a
    request.

    A run that was suspended for a while calls it before its next write, a
    busy one not every time.
    """

    def __init__(self, ask: Callable[[], None], *, seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._asked = float("-inf")

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._asked > self._seconds:
            self._asked = now
            self._ask()


def in_parallel(work: Callable[[str], T], keys: Iterable[str]) -> Iterator[tuple[str, T]]:
    """Do `work` for each key, a few at a time; yields results as they come.

    After a failure nothing new is started, and what is running is waited
    for: its results count, because those writes have happened. The first
    failure is raised at the end.
    """
    # Slow to import, and a plan never gets here.
    from concurrent.futures import ThreadPoolExecutor, as_completed

    failed: BaseException | None = None
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        futures: dict[Future[T], str] = {pool.submit(work, key): key for key in keys}
        try:
            for future in as_completed(futures):
                if future.cancelled():
                    continue
                if (error := future.exception()) is not None:
                    failed = failed or error
                    _cancel(futures)
                else:
                    yield futures[future], future.result()
        finally:
            # Also where the caller stops early, or Ctrl-C interrupts the
            # wait.
            _cancel(futures)
    if failed is not None:
        raise failed


def _cancel(futures: "Iterable[Future[T]]") -> None:
    for future in futures:
        future.cancel()
