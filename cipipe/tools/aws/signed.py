"""Signed requests to AWS, made again where that may help.

Without boto3, whose import and clients take longer than a short command.
Which of boto3's settings count here too is in
docs/decisions/0007-requests-of-our-own.md.
"""

import re
import threading
import urllib.parse
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from cipipe import bounded
from cipipe.interrupt import Interrupt
from cipipe.tools.aws.credentials import Source
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError, AwsUnreachable
from cipipe.tools.aws.messages import AwsAnswer, AwsRequest, Unanswered, texts
from cipipe.tools.aws.signing import path_of, query_of, signed

if TYPE_CHECKING:
    from cipipe.tools.aws.transport import Transport

# Codes of errors that pass, whatever their status: S3 answers RequestTimeout with 400.
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
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
_CODE = re.compile(rb"<Code>([\w.]+)</Code>")


class AwsCall(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a service, as an HTTP request that is not signed yet."""

    # `SERVICE:Operation`, such as `s3:GetObject`. The service is what the
    # signature is for.
    operation: str
    method: str = "GET"
    # Where the service is, with a path where it has one.
    url: str
    # Comes after the URL's own path; not encoded yet.
    path: str = "/"
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    body: bytes = b""
    # None: the endpoint's.
    region: str | None = None

    def __repr__(self) -> str:
        # The body may be an ID token, or an object with secrets in it.
        return f"AwsCall({self.operation} {self.url}{self.path})"


class SignedClient:
    """Makes requests with the current credentials. Safe to use from several
    threads.

    An `interrupt` cuts the waits between attempts short.
    """

    def __init__(
        self, endpoint: Endpoint, credentials: Source, interrupt: Interrupt | None = None
    ) -> None:
        self.endpoint = endpoint
        self._credentials = credentials
        self._interrupt = interrupt or Interrupt()
        self._lock = threading.Lock()
        self._transport: Transport | None = None

    def send(self, call: AwsCall) -> AwsAnswer:
        """Make the request, `retries.ATTEMPTS` times at most.

        It is repeated after no answer, throttling and errors of the server.
        A write whose answer was lost is repeated too. Raises AwsError,
        AwsUnreachable.
        """
        from cipipe.tools.aws.retries import backoff

        request = self._request(call)
        transport = self._connected()
        sleep = self._interrupt.waiter()

        retry = backoff()
        while True:
            failure: AwsError | AwsUnreachable
            try:
                # Signed anew each time: AWS accepts a signature for 15
                # minutes, and credentials may have been renewed.
                answer = transport.send(self._signed(call, request))
            except Unanswered as error:
                failure = AwsUnreachable(str(error))
                again = error.retryable
                status = None
            else:
                if answer.status < 300:
                    return answer
                failure = _refusal(call.operation, answer)
                again = failure.code in _PASSING or retry.is_retry(call.method, answer.status)
                status = answer.status

            following = retry.after(call.method, status) if again else None
            if following is None:
                raise failure
            retry = following
            sleep(retry.get_backoff_time())

    def _request(self, call: AwsCall) -> AwsRequest:
        url = urllib.parse.urlsplit(call.url)
        query = f"?{query_of(call.query)}" if call.query else ""
        return AwsRequest(
            method=call.method,
            origin=f"{url.scheme}://{url.netloc}",
            target=url.path + path_of(call.path) + query,
            headers={**call.headers, "host": url.netloc},
            body=call.body,
        )

    def _signed(self, call: AwsCall, request: AwsRequest) -> AwsRequest:
        proved = signed(
            request,
            service=call.operation.partition(":")[0],
            region=call.region or self.endpoint.region,
            credentials=self._credentials(),
            now=datetime.now(UTC),
        )
        # Added after signing, because proxies may change it.
        headers = {**proved.headers, "user-agent": "cipipe"}
        return msgspec.structs.replace(proved, headers=headers)

    def _connected(self) -> "Transport":
        from cipipe.tools.aws.transport import Transport

        with self._lock:
            if self._transport is None:
                self._transport = Transport(self.endpoint.ca_bundle)
            return self._transport


def _refusal(operation: str, answer: AwsAnswer) -> AwsError:
    """The error in an answer. A HEAD request's has no body: there the status is the code."""
    if "json" in answer.headers.get("content-type", ""):
        return _json_refusal(operation, answer)
    found = texts(answer.body)
    code = found.get("Code")
    if not found:
        # S3 quotes the key, and a control character in it makes the
        # document invalid XML.
        match = _CODE.search(answer.body)
        code = match[1].decode() if match else None

    error = AwsError(
        operation,
        code or str(answer.status),
        found.get("Message", f"HTTP status {answer.status}"),
        answer.status,
    )
    error.region = answer.headers.get("x-amz-bucket-region") or found.get("Region")
    return error


def _json_refusal(operation: str, answer: AwsAnswer) -> AwsError:
    """The error in an answer of a service with a JSON protocol.

    https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#operation-error-serialization
    """
    try:
        found = bounded.loads(answer.body)
    except ValueError:
        found = None
    document = found if isinstance(found, dict) else {}
    name = str(answer.headers.get("x-amzn-errortype") or document.get("__type") or "")
    # As in `com.amazonaws.ecr#ServerException:http://…`.
    code = name.rpartition("#")[2].partition(":")[0]
    text = document.get("message") or document.get("Message")
    return AwsError(
        operation,
        code or str(answer.status),
        str(text or f"HTTP status {answer.status}"),
        answer.status,
    )
