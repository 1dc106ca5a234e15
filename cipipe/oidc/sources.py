"""How a job's ID token is obtained: from a variable, a file, or a request that mints one."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cipipe.ci.base import FileToken, NoToken, RequestToken, TokenSource, VariableToken
from cipipe.errors import IdentityError
from cipipe.tools import http

ATTEMPTS = 3


def fetch(
    source: TokenSource, env: Mapping[str, str], sleep: Callable[[float], None] = time.sleep
) -> str | None:
    """The token; None if there is none. A request mints a new one each
    time.

    A request without an answer, or with a server error, is retried, three
    attempts in all. Raises IdentityError.
    """
    if isinstance(source, NoToken):
        return None
    if isinstance(source, VariableToken):
        return env.get(source.variable) or None
    if isinstance(source, FileToken):
        return _read(source.path)
    return _request(source, sleep)


def _read(path: str) -> str:
    """The file's current text: whoever writes it replaces it before the token expires."""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise IdentityError(
            "oidc-token-file",
            f"the file with the ID token cannot be read: {reason}",
            hint="`token_file` under [oidc] in cipipe.toml names it.",
            where=path,
        ) from None


def _request(source: RequestToken, sleep: Callable[[float], None]) -> str:
    headers = {"Authorization": f"bearer {source.bearer}"}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return str(http.get_json(source.url, headers=headers)["value"])
        except (http.HttpError, KeyError, TypeError) as error:
            if attempt < ATTEMPTS and _transient(error):
                sleep(attempt)
                continue
            raise IdentityError(
                "oidc-request-failed",
                f"the provider did not mint an ID token: {error}",
                hint="The job needs permission to mint one (`permissions: id-token: write`).",
            ) from error
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def _transient(error: Exception) -> bool:
    if not isinstance(error, http.HttpError):
        return False
    # No status: nothing answered.
    return error.status is None or error.status == 429 or error.status >= 500
