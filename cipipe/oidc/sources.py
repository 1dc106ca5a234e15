"""Where a job's ID token comes from: a variable, a file, or a request that mints one."""

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
    """The token, or None where there is none to be had. Mints anew for a request. Raises
    IdentityError.

    A request that is not answered, or with a server's error, is made again, three times in all.
    """
    if isinstance(source, NoToken):
        return None
    if isinstance(source, VariableToken):
        return env.get(source.variable) or None
    return _read(source.path) if isinstance(source, FileToken) else _request(source, sleep)


def _read(path: str) -> str:
    """The file's text as it is now: whoever writes it there replaces it before it expires."""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise IdentityError(
            "oidc-token-file",
            f"the file of the ID token cannot be read: {reason}",
            hint="`token_file` under [oidc] in cipipe.toml names it.",
            where=path,
        ) from None


def _request(source: RequestToken, sleep: Callable[[float], None]) -> str:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return str(
                http.get_json(source.url, headers={"Authorization": f"bearer {source.bearer}"})[
                    "value"
                ]
            )
        except (http.HttpError, KeyError, TypeError) as error:
            if attempt < ATTEMPTS and _may_pass(error):
                sleep(attempt)
                continue
            raise IdentityError(
                "oidc-request-failed",
                f"the provider did not mint an ID token: {error}",
                hint="The job needs permission to mint one (`permissions: id-token: write`).",
            ) from error
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def _may_pass(error: Exception) -> bool:
    return isinstance(error, http.HttpError) and (
        error.status is None or error.status == 429 or error.status >= 500
    )
