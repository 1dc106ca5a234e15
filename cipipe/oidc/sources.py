"""Where a job's ID token comes from: a variable, or a request that mints one."""

from collections.abc import Mapping

from cipipe.ci.base import NoToken, RequestToken, TokenSource, VariableToken
from cipipe.errors import IdentityError
from cipipe.tools import http


def fetch(source: TokenSource, env: Mapping[str, str]) -> str | None:
    """The token, or None where there is none to be had. Mints anew for a request. Raises IdentityError."""
    if isinstance(source, NoToken):
        return None
    if isinstance(source, VariableToken):
        return env.get(source.variable) or None
    return _request(source)


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
