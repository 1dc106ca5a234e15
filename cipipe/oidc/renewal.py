"""Credentials that outlive one session: a new one is begun while the old one still holds.

Every renewal goes through the whole exchange again, with a token that is fetched anew.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from cipipe.errors import CipipeError
from cipipe.tools.aws.credentials import Credentials

AHEAD = timedelta(minutes=15)
"""Time that is left of a session when the next one is begun; of a short one, half of it. AWS's
tools ask as early.
"""

AGAIN = timedelta(minutes=1)
"""Time until the next attempt after a failed one, while the old session holds."""


class Renewed:
    """The credentials of now. `begin` makes a session; safe to use from several threads."""

    def __init__(self, begin: Callable[[], Credentials], now: Callable[[], datetime]) -> None:
        self._begin, self._now = begin, now
        self._lock = threading.Lock()
        self._held: Credentials | None = None
        self._until: datetime | None = None

    def current(self) -> Credentials:
        """Credentials that hold for a while yet.

        Where renewing fails, the old ones are given for as long as they hold, and to whoever asks
        while it goes on. Raises what `begin` raises after that.
        """
        held = self._held
        if held is not None and _holds(held, self._now()):
            if not self._lock.acquire(blocking=False):
                return held
        else:
            self._lock.acquire()
        try:
            return self._current()
        finally:
            self._lock.release()

    def _current(self) -> Credentials:
        now, held = self._now(), self._held
        if held is not None and (self._until is None or now < self._until):
            return held
        try:
            begun = self._begin()
        except CipipeError:
            now = self._now()
            if held is None or not _holds(held, now):
                raise
            self._until = min(held.expiration or now + AGAIN, now + AGAIN)
            return held
        expires = begun.expiration
        self._held = begun
        self._until = expires - min(AHEAD, (expires - now) / 2) if expires else None
        return begun


def _holds(held: Credentials, now: datetime) -> bool:
    return held.expiration is None or now < held.expiration
