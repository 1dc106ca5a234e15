"""Registered secrets, masked in everything that leaves the process, whole
lines at a time.

A secret is registered the moment it exists. Its base64, URL-encoded, JSON
and shell forms, and each line of a multi-line secret, are masked with it.
Inside longer base64, up to four bits at each end of a secret stay, because
they share a character with what is beside it.
"""

import base64
import contextlib
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

MASK = "[redacted]"

# Shorter values are not masked: they would mask everything.
SHORTEST = 4

# From which length on a text gives something away: of letters or digits
# alone, and of others.
_LONG = 8
_MIXED = 6

# Long words that are in logs and answers for other reasons: masking them
# would hide those. They are no passwords that protect anything.
_EVERYDAY = frozenset(
    [
        "conditional",
        "database",
        "default",
        "deployed",
        "deploying",
        "destroyed",
        "disabled",
        "encrypted",
        "external",
        "internal",
        "interrupted",
        "localhost",
        "merge-request",
        "never-deployed",
        "no-baseline",
        "not-finished",
        "not-run",
        "nothing-due",
        "password",
        "postgres",
        "postgresql",
        "production",
        "redshift",
        "required",
        "terraform",
        "unchanged",
        "undefined",
        "username",
    ]
)

# What Go escapes in JSON so that HTML can contain it.
_OF_HTML = re.compile("[<>&\u2028\u2029]")


class Redactor:
    """Masks registered secrets in text.

    `text` is for whole values; `lines` is for chunks of a child's output,
    which it splits into lines, so that a secret across two chunks is found.
    Safe to use from several threads.
    """

    def __init__(self, registered: Callable[[str], None] | None = None) -> None:
        self._registered = registered
        self._lock = threading.Lock()
        self._known: frozenset[str] = frozenset()
        # Replaced, never changed: `text` reads it while another thread
        # registers.
        self._forms: tuple[str, ...] = ()

    def register(self, secret: str) -> None:
        """Mask `secret` from now on. Empty and very short values are ignored."""
        with self._lock:
            if len(secret.strip()) < SHORTEST or secret in self._known:
                return
            if self._registered is not None:
                self._registered(secret)
            self._known |= {secret}
            forms = {*self._forms, *(form for form in _forms(secret) if len(form) >= SHORTEST)}
            # The longest first: a secret may contain another one.
            self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def register_value(self, value: Any) -> None:
        """Mask what is secret in a sensitive value of any shape: see `secrets_in`."""
        for secret in secrets_in(value):
            self.register(secret)

    def text(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def lines(self, chunks: Iterator[str]) -> Iterator[str]:
        """The lines of the text that `chunks` add up to, without their line ends, masked."""
        rest = ""
        for chunk in chunks:
            *whole, rest = (rest + chunk).split("\n")
            yield from map(self.text, whole)
        if rest:
            yield self.text(rest)


def secrets_in(value: Any) -> Iterator[str]:
    """The leaves of a sensitive value that have to be masked: texts, and
    numbers as text.

    Never keys, booleans and null, nor texts that are not `telling`. Each
    line of a text counts, and if it is a JSON object or list itself, its
    leaves as well.
    """
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple | set):
        for item in value:
            yield from secrets_in(item)
    elif isinstance(value, str):
        yield from filter(telling, map(str.strip, value.splitlines()))
        if value.lstrip().startswith(("{", "[")):
            with contextlib.suppress(ValueError, RecursionError):
                yield from secrets_in(json.loads(value))
    elif isinstance(value, int | float) and not isinstance(value, bool) and telling(str(value)):
        yield str(value)


def telling(text: str) -> bool:
    """Whether a text gives something away: 8 characters, or 6 unless they
    are letters or digits alone.

    Shorter ones (`false`, `error`, a port) are in every log for other
    reasons, and so are some longer words: masking them would hide those,
    and no secret.
    """
    text = text.strip()
    if text.lower() in _EVERYDAY:
        return False
    return len(text) >= _LONG or (len(text) >= _MIXED and not text.isalpha() and not text.isdigit())


def _forms(secret: str) -> Iterator[str]:
    for part in {secret, *(line.strip() for line in secret.splitlines())}:
        if len(part) < SHORTEST:
            continue
        yield from _quoted(part)
        yield from _as_json(part)
        # As shlex quotes it for a shell, and as people do.
        yield part.replace("'", "'\"'\"'")
        yield part.replace("'", "'\\''")
        # In a longer base64 text the secret may start at any of three
        # offsets. The characters that consist of its bits alone are the
        # same whatever is beside it.
        raw = part.encode()
        for offset in range(3):
            encoded = base64.b64encode(bytes(offset) + raw).decode()
            stable = encoded[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6]
            yield from _quoted(stable)
            yield stable.replace("+", "-").replace("/", "_")


def _quoted(text: str) -> Iterator[str]:
    """The text, and what URLs and forms make of it."""
    yield text
    for quoted in (
        *(urllib.parse.quote(text, safe=safe) for safe in ("", "/")),
        urllib.parse.quote_plus(text),
    ):
        yield quoted
        yield re.sub(r"%..", lambda code: code[0].lower(), quoted)


def _as_json(text: str) -> Iterator[str]:
    """The text inside a JSON string: Python writes ASCII, others UTF-8, and
    Go, and so Terraform, escapes characters of HTML.
    """
    for ascii_only in (True, False):
        written = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield written
        yield _OF_HTML.sub(lambda found: f"\\u{ord(found[0]):04x}", written)
