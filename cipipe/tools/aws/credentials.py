"""A set of AWS keys, and where a client gets the current one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Credentials:
    """AWS keys. Only temporary ones have a session token and an expiration."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    # UTC; None for keys that do not expire.
    expiration: datetime | None = None

    def environment(self) -> dict[str, str]:
        """The keys as environment variables of AWS's tools."""
        env = {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
        }
        if self.session_token:
            env["AWS_SESSION_TOKEN"] = self.session_token
        return env


Source = Callable[[], Credentials]
"""Returns valid credentials, renewed when they are about to expire. Called for every request."""
