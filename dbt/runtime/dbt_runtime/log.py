"""Lines on standard output, which ECS sends to CloudWatch: one JSON object for each event, and
what dbt prints, without secrets.
"""

import json
import sys
import threading
import urllib.parse
from collections.abc import Iterable, Iterator
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
        """Mask these values from now on, also as JSON, Python and URLs write them; of a value with
        several lines, each line.
        """
        lines = {line.strip() for secret in secrets for line in secret.splitlines()}
        known = {form for line in lines if len(line) >= _MIN_SECRET for form in _forms(line)}
        known |= set(self._secrets)
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


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield urllib.parse.quote(secret, safe="")
    yield urllib.parse.quote_plus(secret)
