"""Containers that a crash left, of the daemon or of cipipe: the next one removes them."""

import contextlib
import time
from typing import Any

# On each container: when it is nobody's any more, in seconds since 1970.
_EXPIRES = "io.cipipe.expires"

# Seconds after the container's limit.
_LEEWAY = 120


def label(timeout: int) -> dict[str, str]:
    """For a container that runs for at most `timeout` seconds."""
    return {_EXPIRES: str(int(time.time()) + timeout + _LEEWAY)}


def remove_expired(client: Any) -> None:
    """`client` is the SDK's. Raises the SDK's errors."""
    for left in client.containers.list(all=True, filters={"label": _EXPIRES}, sparse=True):
        expires = str((left.attrs.get("Labels") or {}).get(_EXPIRES, ""))
        if expires.isdecimal() and int(expires) < time.time():
            # Another job may remove it at the same time.
            with contextlib.suppress(Exception):
                left.remove(force=True, v=True)
