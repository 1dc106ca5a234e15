"""Requests to a registry over connections that stay open from one to the next.

The HTTP is that of the requests to AWS: urllib3, which a run has loaded by
then. `tools/http.py` needs another library, and connects for each request.
"""

import urllib.parse
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from cipipe.tools import http
from cipipe.tools.aws.messages import AwsAnswer, AwsRequest, Unanswered

if TYPE_CHECKING:
    from cipipe.tools.aws.transport import Transport

_REDIRECTS = {301, 302, 303, 307, 308}


class Connections:
    """Safe to use from several threads."""

    def __init__(self, ca_bundle: str | None = None) -> None:
        self._ca_bundle = ca_bundle
        self._answered = False

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> http.Response:
        """One request; redirects are followed for GET and HEAD only. Raises HttpError."""
        parts = urllib.parse.urlsplit(url)
        request = AwsRequest(
            method=method,
            origin=f"{parts.scheme}://{parts.netloc}",
            target=f"{parts.path}?{parts.query}" if parts.query else parts.path,
            headers={"user-agent": "cipipe", **headers},
            body=body or b"",
        )
        try:
            answer = self._send(request)
        except Unanswered as error:
            raise http.HttpError(method, url, str(error)) from error
        if answer.status in _REDIRECTS and method in {"GET", "HEAD"}:
            return http.request(method, url, headers=headers)
        return http.Response(answer.status, answer.headers, answer.body)

    def _send(self, request: AwsRequest) -> AwsAnswer:
        try:
            answer = self._transport.send(request)
        except Unanswered:
            # The registry may have closed the connection just when it was
            # used again. All that is sent here may be sent twice.
            if not self._answered:
                raise
            answer = self._transport.send(request)
        self._answered = True
        return answer

    @cached_property
    def _transport(self) -> "Transport":
        from cipipe.tools.aws.transport import Transport

        return Transport(self._ca_bundle)
