"""Says now and then that Terraform waits for a state lock."""

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

# Seconds from one line to the next.
_EVERY = 30.0

# What Terraform logs before it has the lock.
_BEFORE = {"version", "log", "state_lock_acquire"}


class Waiting:
    """While it is entered, and until the log says more than that the lock is
    being acquired, says so with `line`.
    """

    def __init__(self, line: Callable[[str], None], timeout: str, *, every: float = _EVERY) -> None:
        self._line = line
        self._timeout = timeout
        self._every = every
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._report, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()

    @property
    def over(self) -> bool:
        """Whether nothing more is said."""
        return self._over.is_set()

    def following(
        self, reader: Callable[[Mapping[str, Any]], str | None]
    ) -> Callable[[Mapping[str, Any]], str | None]:
        """A reader of the log that also notices when the wait is over."""

        def follow(message: Mapping[str, Any]) -> str | None:
            if message.get("type") not in _BEFORE:
                self._over.set()
            return reader(message)

        return follow

    def _report(self) -> None:
        started = time.monotonic()
        while not self._over.wait(self._every):
            waited = int(time.monotonic() - started)
            self._line(f"still waiting for the state lock ({waited}s of {self._timeout})")
