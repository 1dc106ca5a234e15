"""Secrets in what was printed: tokens and session tokens by their form, secret keys by the hashes
that the sandbox keeps.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator

_JWT = re.compile(r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]*)?")
_SESSION_TOKEN = re.compile(r"(?:FQoG|FwoG|IQoJ)[A-Za-z0-9/+=]{40,}")
_KEY = re.compile(r"(?<![A-Za-z0-9/+=])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")


def leaks(text: str, *, hashes: Iterable[str] = (), secrets: Iterable[str] = ()) -> list[str]:
    """What is secret in a text, cut short. A line that makes GitHub mask a secret is none: GitHub
    does not show it.
    """
    shown = "\n".join(line for line in text.splitlines() if not line.startswith("::add-mask::"))
    return [f"{kind} {found[:6]}…" for kind, found in _found(shown, set(hashes), secrets)]


def _found(text: str, hashes: set[str], secrets: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from (("JWT", found) for found in _JWT.findall(text))
    yield from (("session token", found) for found in _SESSION_TOKEN.findall(text))
    for found in _KEY.findall(text):
        if hashlib.sha256(found.encode()).hexdigest() in hashes:
            yield "secret key", found
    yield from (("secret", secret) for secret in secrets if len(secret) >= 8 and secret in text)
