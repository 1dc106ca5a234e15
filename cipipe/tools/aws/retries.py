"""When a request is made again, and after how long: urllib3's counting,
with full jitter.

Imported with the first request, like transport.py.
"""

import random
from typing import Self

from urllib3 import HTTPResponse
from urllib3.exceptions import MaxRetryError, ProtocolError
from urllib3.util import Retry

ATTEMPTS = 4
"""How often a request is made, in all, that AWS or the network fails to answer."""


class Backoff(Retry):
    """Waits a random part of 1, 2, 4 … seconds, so that many threads do not return together."""

    def after(self, method: str, status: int | None) -> Self | None:
        """The state after a failed attempt, or None when it was the last
        one.

        `status` is the HTTP status of the answer; None: there was no
        answer.
        """
        failed = HTTPResponse(status=status) if status is not None else None
        unanswered = ProtocolError("no answer") if status is None else None
        try:
            return self.increment(method, response=failed, error=unanswered)
        except MaxRetryError:
            return None

    def get_backoff_time(self) -> float:
        failures = len(self.history)
        if failures == 1 and self.history[0].status is None:
            # Most likely the server closed an idle connection just when it
            # was used again.
            return 0
        return random.uniform(0, 2 ** (failures - 1))  # noqa: S311 - not a secret


def backoff() -> Backoff:
    """The state of a request that has not failed yet."""
    return Backoff(
        total=ATTEMPTS - 1,
        # Every request here may be repeated: writes are conditional, or
        # write the same again.
        allowed_methods=None,
        status_forcelist={429, 500, 502, 503, 504},
        respect_retry_after_header=False,
    )
