"""Where a job's ID token comes from: a variable, a file, or a request that mints one."""

from collections.abc import Mapping
from pathlib import Path

from cipipe.ci.base import FileToken, NoToken, RequestToken, TokenSource, VariableToken
from cipipe.errors import IdentityError
from cipipe.tools import http


def fetch(source: TokenSource, env: Mapping[str, str]) -> str | None:
    """The token, or None where there is none to be had. Mints anew for a request. Raises IdentityError."""
    if isinstance(source, NoToken):
        return None
    if isinstance(source, VariableToken):
        return env.get(source.variable) or None
    return _read(source.path) if isinstance(source, FileToken) else _request(source)


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


def _request(source: RequestToken) -> str:
    try:
        answer = http.get_json(source.url, headers={"Authorization": f"bearer {source.bearer}"})
        token = answer["value"]
    except (http.HttpError, KeyError, TypeError) as error:
        raise IdentityError(
            "oidc-request-failed",
            f"the provider did not mint an ID token: {error}",
            hint="The job needs permission to mint one (`permissions: id-token: write`).",
        ) from error
    return str(token)
