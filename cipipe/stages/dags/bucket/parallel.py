"""A few calls at once, in threads, and asking now and then whether to go on."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

_AT_ONCE = 8

T = TypeVar("T")


class Throttled:
    """Asks at most that often: a run that was suspended asks before its next write, a busy one does
    not ask always.
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
    """Do `work` for each key, a few at once; gives results as they come. A failure cancels what has
    not begun.
    """
    from concurrent.futures import (
        ThreadPoolExecutor,
        as_completed,
    )  # of no use to a plan, and slow to import

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
            _cancel(futures)
    if failed is not None:
        raise failed


def _cancel(futures: "Iterable[Future[T]]") -> None:
    for future in futures:
        future.cancel()
