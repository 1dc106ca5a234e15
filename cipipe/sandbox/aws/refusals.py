"""How each of AWS's protocols refuses a request before the service looks at
it.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and
https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
"""

from typing import NamedTuple
from xml.sax.saxutils import escape

from cipipe.sandbox.web import Request, Response, json_answer


class Refusal(NamedTuple):
    """One reason, in the words of every protocol."""

    # The error codes of S3, EC2, the query protocol and the JSON protocols.
    s3: str
    ec2: str
    query: str
    json: str

    # The text, where S3 or EC2 has no other one below.
    text: str

    # The HTTP statuses of the query protocol and of S3.
    status: int = 403
    s3_status: int = 403
    s3_text: str | None = None
    ec2_text: str | None = None


EXPIRED = Refusal(
    s3="ExpiredToken",
    ec2="RequestExpired",
    query="ExpiredToken",
    json="ExpiredTokenException",
    text="The security token included in the request is expired",
    s3_status=400,
    s3_text="The provided token has expired.",
    ec2_text="Request has expired.",
)
UNKNOWN_KEY = Refusal(
    s3="InvalidAccessKeyId",
    ec2="AuthFailure",
    query="InvalidClientTokenId",
    json="UnrecognizedClientException",
    text="The security token included in the request is invalid.",
    s3_text="The AWS Access Key Id you provided does not exist in our records.",
)
UNSIGNED = Refusal(
    s3="AccessDenied",
    ec2="MissingAuthenticationToken",
    query="MissingAuthenticationToken",
    json="MissingAuthenticationTokenException",
    text="Request is missing Authentication Token",
    s3_text="Access Denied",
)
BAD_SIGNATURE = Refusal(
    s3="SignatureDoesNotMatch",
    ec2="SignatureDoesNotMatch",
    query="SignatureDoesNotMatch",
    json="InvalidSignatureException",
    text="The request signature we calculated does not match the signature you provided.",
)
NOT_SERVED = Refusal(
    s3="NotImplemented",
    ec2="UnsupportedOperation",
    query="OptInRequired",
    json="OptInRequired",
    text="The sandbox does not serve this service",
    status=400,
    s3_status=400,
)


def refused(refusal: Refusal, service: str, request: Request) -> Response:
    """The refusal in the protocol of the request. `service` is the name in a signature's scope."""
    text = escape(refusal.text)
    if service == "s3":
        text = escape(refusal.s3_text or refusal.text)
        error = f"<Error><Code>{refusal.s3}</Code><Message>{text}</Message></Error>"
        return _xml(error, refusal.s3_status)
    if service == "ec2":
        text = escape(refusal.ec2_text or refusal.text)
        error = f"<Code>{refusal.ec2}</Code><Message>{text}</Message>"
        return _xml(f"<Response><Errors><Error>{error}</Error></Errors></Response>", 400)
    if "X-Amz-Target" in request.headers:
        return json_answer({"__type": refusal.json, "message": refusal.text}, 400)
    if request.mimetype == "application/x-www-form-urlencoded":
        error = f"<Type>Sender</Type><Code>{refusal.query}</Code><Message>{text}</Message>"
        return _xml(f"<ErrorResponse><Error>{error}</Error></ErrorResponse>", refusal.status)

    # What is left is the REST-JSON protocol.
    headers = [("x-amzn-ErrorType", refusal.json)]
    return json_answer({"message": refusal.text}, refusal.status, headers)


def _xml(body: str, status: int) -> Response:
    document = f'<?xml version="1.0" encoding="UTF-8"?>{body}'
    return Response(document, status, content_type="text/xml")
