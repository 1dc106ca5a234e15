"""Credentials that outlive one session: a new one is started while the old
one is still valid.

Every renewal is a whole exchange with a new token.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from cipipe.errors import CipipeError
from cipipe.tools.aws.credentials import Credentials

# How long before the end of a session the next one is started; half of a
# session that is short. AWS's own tools renew as early.
AHEAD = timedelta(minutes=15)

# How long after a failed attempt the next one is made, while the old
# session is valid.
AGAIN = timedelta(minutes=1)


class Renewed:
    """The current credentials. Safe to use from several threads."""

    def __init__(self, start: Callable[[], Credentials], now: Callable[[], datetime]) -> None:
        # `start` makes a session.
        self._start = start
        self._now = now
        self._lock = threading.Lock()
        self._latest: Credentials | None = None

        # When the latest credentials are due for renewal; None if they
        # never expire.
        self._until: datetime | None = None

    def current(self) -> Credentials:
        """Credentials that are valid for some time.

        While a renewal is running, and where it fails, the old ones are
        returned as long as they are valid. After that, raises what `start`
        raises.
        """
        latest = self._latest
        if latest is not None and _valid(latest, self._now()):
            # Somebody else is renewing: valid credentials need not wait for
            # that.
            if not self._lock.acquire(blocking=False):
                return latest
        else:
            self._lock.acquire()
        try:
            return self._current()
        finally:
            self._lock.release()

    def _current(self) -> Credentials:
        now = self._now()
        latest = self._latest
        if latest is not None and (self._until is None or now < self._until):
            return latest

        try:
            renewed = self._start()
        except CipipeError:
            # The attempt took time: the old session may have expired
            # meanwhile.
            now = self._now()
            if latest is None or not _valid(latest, now):
                raise
            self._until = min(latest.expiration or now + AGAIN, now + AGAIN)
            return latest

        expires = renewed.expiration
        self._latest = renewed
        self._until = expires - min(AHEAD, (expires - now) / 2) if expires else None
        return renewed


def _valid(credentials: Credentials, now: datetime) -> bool:
    return credentials.expiration is None or now < credentials.expiration
