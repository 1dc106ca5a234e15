"""Registered secrets, masked in everything that leaves the process, whole lines at a time.

A secret is registered the moment it exists; its base64 and URL-encoded forms, and each line of a multi-line secret,
are masked with it.
"""

import base64
import re
import urllib.parse
from collections.abc import Callable, Iterator

MASK = "[redacted]"
_SHORTEST = 4


class Redactor:
    """Masks registered secrets in text.

    `text` is for whole values; `stream` is for chunks of a child's output, which it hands on line by line so that a
    secret that lies across two chunks is still seen.
    """

    def __init__(self, registered: Callable[[str], None] | None = None) -> None:
        self._registered = registered
        self._secrets: list[str] = []

    def register(self, secret: str) -> None:
        """Mask `secret` from now on. Empty and very short values are ignored: they would mask everything."""
        if self._registered is not None and len(secret) >= _SHORTEST and secret not in self._secrets:
            self._registered(secret)
        for form in _forms(secret):
            if len(form) >= _SHORTEST and form not in self._secrets:
                self._secrets.append(form)
        self._secrets.sort(key=len, reverse=True)

    def text(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        return text

    def lines(self, chunks: Iterator[str]) -> Iterator[str]:
        """Give whole lines (without their ends) of the text that `chunks` add up to, masked."""
        rest = ""
        for chunk in chunks:
            *whole, rest = (rest + chunk).split("\n")
            yield from map(self.text, whole)
        if rest:
            yield self.text(rest)


def _forms(secret: str) -> Iterator[str]:
    for part in {secret, *(line.strip() for line in secret.splitlines())}:
        if len(part) < _SHORTEST:
            continue
        yield part
        for safe in ("", "/"):
            quoted = urllib.parse.quote(part, safe=safe)
            yield quoted
            yield re.sub(r"%..", lambda code: code[0].lower(), quoted)
        # Within a longer encoded text the secret starts at any of three offsets; only the middle is the same each time.
        raw = part.encode()
        for offset in range(3):
            encoded = base64.b64encode(bytes(offset) + raw).decode()
            stable = encoded[-(-offset * 8 // 6) : len(encoded) - 4 if len(raw) > 6 else None]
            yield stable
            yield stable.replace("+", "-").replace("/", "_")
