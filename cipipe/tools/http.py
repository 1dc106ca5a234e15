"""The client of HTTP services that are not AWS: small requests, always with
a timeout.

`requests` is imported with the first request. Loopback is never reached
through a proxy. An answer that is not 2xx is an error in `get_json` and
`post_json`; `request` returns every answer.
"""

import json
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from cipipe.errors import StageError

TIMEOUT = 10.0
"""Seconds to connect, and seconds to wait for each piece of an answer."""

# Bytes of a piece.
_PIECE = 1 << 18

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class HttpError(StageError):
    """A service did not answer, or answered with an error. Never quotes what was sent to it."""

    # None: there was no answer.
    status: int | None

    def __init__(self, method: str, url: str, detail: str, status: int | None = None) -> None:
        # A query may contain a token.
        shown = urllib.parse.urlsplit(url)._replace(query="", fragment="").geturl()
        super().__init__(
            "http-failed",
            f"{method} {shown}: {detail}",
            hint="Check that the service is up, and that this machine reaches it. "
            "Proxies are read from the environment.",
            where=shown,
        )
        self.status = status


class Response(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int
    # Names are in lower case.
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        # Headers and body may contain credentials.
        return f"Response({self.status})"

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)


class Body:
    """A body that is sent in pieces, without ever being in memory as a whole."""

    def __init__(self, pieces: Iterator[bytes], size: int) -> None:
        self._pieces = pieces
        self._size = size
        self._left = b""

    def __len__(self) -> int:
        return self._size

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; empty at the end."""
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = piece
        found, self._left = self._left[:size], self._left[size:]
        return found

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(_PIECE):
            yield piece


class Opened(msgspec.Struct, frozen=True):
    """An answer whose body is still being received."""

    status: int
    # Names are in lower case.
    headers: Mapping[str, str]
    pieces: Iterator[bytes]


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | Body | None = None,
    params: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> Response:
    """One request; redirects are followed for GET and HEAD only.

    `params` is added to the URL as its query. Raises HttpError when there
    is no answer.
    """
    import requests

    with requests.Session() as session:
        # Proxies, and credentials in a .netrc file.
        session.trust_env = urllib.parse.urlsplit(url).hostname not in LOOPBACK
        try:
            answer = session.request(
                method,
                url,
                headers=dict(headers or {}),
                data=body,
                params=dict(params or {}),
                timeout=timeout,
                allow_redirects=method in {"GET", "HEAD"},
            )
        except requests.RequestException as error:
            raise HttpError(method, url, type(error).__name__) from error
    return Response(
        answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.content
    )


@contextmanager
def opened(
    url: str, *, headers: Mapping[str, str] | None = None, timeout: float = TIMEOUT
) -> Iterator[Opened]:
    """GET, with the body in pieces. Redirects are followed; another host
    does not get the Authorization header.

    Raises HttpError, while the pieces are read as well.
    """
    import requests

    with requests.Session() as session:
        session.trust_env = urllib.parse.urlsplit(url).hostname not in LOOPBACK
        try:
            with session.get(
                url, headers=dict(headers or {}), timeout=timeout, stream=True
            ) as answer:
                found = {k.lower(): v for k, v in answer.headers.items()}
                yield Opened(answer.status_code, found, answer.iter_content(_PIECE))
        except requests.RequestException as error:
            raise HttpError("GET", url, type(error).__name__) from error


def get_json(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> Any:
    """GET a JSON document. Raises HttpError for anything but a 2xx answer with JSON in it."""
    answer = request("GET", url, headers=headers, params=params, timeout=timeout)
    return _document("GET", url, answer)


def post_json(
    url: str, payload: Any, *, headers: Mapping[str, str] | None = None, timeout: float = TIMEOUT
) -> Any:
    """POST a JSON document and return the JSON answer. Raises HttpError as `get_json` does."""
    sent = {"Content-Type": "application/json", **(headers or {})}
    body = json.dumps(payload).encode()
    answer = request("POST", url, headers=sent, body=body, timeout=timeout)
    return _document("POST", url, answer)


def _document(method: str, url: str, answer: Response) -> Any:
    if not 200 <= answer.status < 300:
        raise HttpError(method, url, f"answered {answer.status}", answer.status)
    try:
        return answer.json()
    except ValueError as error:
        raise HttpError(method, url, "the answer is not JSON", answer.status) from error
