"""Lines on standard output, which ECS sends to CloudWatch: one JSON object for each event, and
what dbt prints, without secrets.
"""

import json
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

MASK = "***"

# A shorter value would also mask ordinary words.
_MIN_SECRET = 4


class Log:
    """Writes whole lines, from any thread."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()
        self._secrets: tuple[str, ...] = ()

    def hide(self, secrets: Iterable[str]) -> None:
        """Mask these values from now on; of a value with several lines, each line."""
        parts = {line.strip() for secret in secrets for line in secret.splitlines()}
        parts |= set(self._secrets)
        known = {part for part in parts if len(part) >= _MIN_SECRET}
        # A secret that contains another one is replaced first.
        self._secrets = tuple(sorted(known, key=len, reverse=True))

    def masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def line(self, text: str) -> None:
        with self._lock:
            self._stream.write(self.masked(text) + "\n")
            self._stream.flush()

    def event(self, event: str, **fields: Any) -> None:
        """Write one event. CloudWatch Logs Insights discovers the fields of JSON by itself."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        # Before JSON escapes any of a secret's characters.
        masked = {name: self._cleaned(value) for name, value in fields.items()}
        self.line(json.dumps({"time": now, "event": event, **masked}))

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.masked(value)
        if isinstance(value, list):
            return [self._cleaned(item) for item in value]
        return value
