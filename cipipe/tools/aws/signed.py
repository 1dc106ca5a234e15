"""Signed requests to AWS, made again where that may help.

Without boto3: decision 7 tells why, and which settings of boto3's count here too.
"""

import random
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from cipipe.tools.aws.connections import Answer, Connections, Unanswered
from cipipe.tools.aws.endpoint import AwsError, AwsUnreachable, Credentials, Endpoint
from cipipe.tools.aws.signing import path_of, query_of, signed

ATTEMPTS = 4
"""How often a request is made that AWS, or the network, fails to answer."""

_PASSING = {
    "BandwidthLimitExceeded",
    "InternalError",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_AGAIN = {429, 500, 502, 503, 504}
_CODE = re.compile(rb"<Code>([\w.]+)</Code>")


class Signed:
    """Requests to one endpoint with the keys of now. Safe to use from several threads."""

    def __init__(self, endpoint: Endpoint, keys: Callable[[], Credentials]) -> None:
        self._endpoint = endpoint
        self._keys = keys
        self._making = threading.Lock()
        self._connections: dict[str, Connections] = {}

    def send(
        self,
        operation: str,
        method: str,
        url: str,
        path: str = "/",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        region: str | None = None,
    ) -> Answer:
        """One signed request; `operation` is `SERVICE:Name`. `path`, not encoded yet, comes after
        `url`'s own.

        What may pass (no answer, throttling, an error of the server) is tried again, `ATTEMPTS`
        times in all, and so is a write whose answer was lost. Raises AwsError, AwsUnreachable.
        """
        place = urllib.parse.urlsplit(url)
        target = place.path + path_of(path) + (f"?{query_of(query)}" if query else "")
        given = {**(headers or {}), "host": place.netloc}
        connections = self._connected(f"{place.scheme}://{place.netloc}")
        for attempt in range(1, ATTEMPTS + 1):
            proved = signed(
                method,
                target,
                given,
                body,
                service=operation.partition(":")[0],
                region=region or self._endpoint.region,
                credentials=self._keys(),
                now=datetime.now(UTC),
            )
            try:
                answer = connections.send(method, target, {**proved, "user-agent": "cipipe"}, body)
            except Unanswered as silence:
                if attempt == ATTEMPTS or not silence.again:
                    raise AwsUnreachable(str(silence)) from None
            else:
                if answer.status < 300:
                    return answer
                error = _refusal(operation, answer)
                if attempt == ATTEMPTS or not (answer.status in _AGAIN or error.code in _PASSING):
                    raise error
            time.sleep(random.uniform(0, 2 ** (attempt - 1)))  # noqa: S311 - so that many do not come back at once
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    def _connected(self, origin: str) -> Connections:
        with self._making:
            if origin not in self._connections:
                self._connections[origin] = Connections(origin, self._endpoint.ca_bundle)
            return self._connections[origin]


def _refusal(operation: str, answer: Answer) -> AwsError:
    """The error in an answer; one without a body (of a HEAD request) has the status for its code."""
    found = texts(answer.body)
    odd = (
        None if found else _CODE.search(answer.body)
    )  # one that quotes a key with a control character is no XML
    code = odd[1].decode() if odd else found.get("Code") or str(answer.status)
    error = AwsError(
        operation, code, found.get("Message", f"HTTP status {answer.status}"), answer.status
    )
    error.region = answer.headers.get("x-amz-bucket-region") or found.get("Region")
    return error


def texts(body: bytes) -> dict[str, str]:
    """The text of each element of an XML document by its name; of equal names, the last. Empty
    where it is none.
    """
    root = document(body)
    return (
        {}
        if root is None
        else {
            element.tag.rpartition("}")[2]: (element.text or "").strip() for element in root.iter()
        }
    )


def document(body: bytes) -> ET.Element | None:
    """An XML document's root; None where it is none."""
    try:
        return ET.fromstring(body)  # noqa: S314 - AWS's own answer over TLS
    except (
        ET.ParseError,
        LookupError,
        ValueError,
    ):  # the latter two: an encoding that nobody knows, or of two bytes
        return None
