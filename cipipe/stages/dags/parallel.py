"""A few calls at once, in threads."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

_AT_ONCE = 8

T = TypeVar("T")


def in_parallel(work: Callable[[str], T], keys: Iterable[str]) -> Iterator[tuple[str, T]]:
    """Do `work` for each key, a few at once; gives results as they come. A failure cancels what has not begun."""
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


def _cancel(futures: Iterable[Future[T]]) -> None:
    for future in futures:
        future.cancel()
