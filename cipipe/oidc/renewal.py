"""Credentials that outlive one session: a new one is begun while the old one still holds.

Every renewal goes through the whole exchange again, with a token that is fetched anew.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from cipipe.errors import CipipeError
from cipipe.tools.aws import Credentials

AHEAD = timedelta(minutes=15)
"""Time that is left of a session when the next one is begun; of a short one, half of it. AWS's tools ask as early."""


class Renewed:
    """The credentials of now. `begin` makes a session; safe to use from several threads."""

    def __init__(self, begin: Callable[[], Credentials], now: Callable[[], datetime]) -> None:
        self._begin, self._now = begin, now
        self._lock = threading.Lock()
        self._held: Credentials | None = None
        self._until: datetime | None = None

    def current(self) -> Credentials:
        """Credentials that hold for a while yet.

        Where renewing fails, the old ones are given for as long as they hold. Raises what `begin` raises after that.
        """
        with self._lock:
            now = self._now()
            if self._held is not None and (self._until is None or now < self._until):
                return self._held
            try:
                self._held = self._begin()
            except CipipeError:
                if self._held is None or self._held.expiration is None or now >= self._held.expiration:
                    raise
                return self._held
            expires = self._held.expiration
            self._until = expires - min(AHEAD, (expires - now) / 2) if expires else None
            return self._held
