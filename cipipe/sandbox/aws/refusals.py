"""How each of AWS's protocols refuses a request before the service looks at it.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and
…/IAM/latest/APIReference/CommonErrors.html
"""

from typing import NamedTuple
from xml.sax.saxutils import escape

from cipipe.sandbox.web import Request, Response, json_answer


class Refusal(NamedTuple):
    """A reason with its code in each protocol, in the order S3, EC2, query, JSON; `status` is the
    query protocol's.
    """

    s3: str
    ec2: str
    query: str
    json: str
    text: str
    status: int = 403
    s3_status: int = 403
    s3_text: str | None = None
    ec2_text: str | None = None


EXPIRED = Refusal(
    "ExpiredToken",
    "RequestExpired",
    "ExpiredToken",
    "ExpiredTokenException",
    "The security token included in the request is expired",
    s3_status=400,
    s3_text="The provided token has expired.",
    ec2_text="Request has expired.",
)
UNKNOWN_KEY = Refusal(
    "InvalidAccessKeyId",
    "AuthFailure",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "The security token included in the request is invalid.",
    s3_text="The AWS Access Key Id you provided does not exist in our records.",
)
UNSIGNED = Refusal(
    "AccessDenied",
    "MissingAuthenticationToken",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "Request is missing Authentication Token",
    s3_text="Access Denied",
)
BAD_SIGNATURE = Refusal(
    "SignatureDoesNotMatch",
    "SignatureDoesNotMatch",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "The request signature we calculated does not match the signature you provided.",
)
NOT_SERVED = Refusal(
    "NotImplemented",
    "UnsupportedOperation",
    "OptInRequired",
    "OptInRequired",
    "The sandbox does not serve this service",
    status=400,
    s3_status=400,
)


def refused(refusal: Refusal, service: str, request: Request) -> Response:
    """The answer of a service, by its name in the signature's scope, in the protocol of the
    request.
    """
    text = escape(refusal.text)
    if service == "s3":
        text = escape(refusal.s3_text or refusal.text)
        return _xml(
            f"<Error><Code>{refusal.s3}</Code><Message>{text}</Message></Error>", refusal.s3_status
        )
    if service == "ec2":
        text = escape(refusal.ec2_text or refusal.text)
        error = f"<Code>{refusal.ec2}</Code><Message>{text}</Message>"
        return _xml(f"<Response><Errors><Error>{error}</Error></Errors></Response>", 400)
    if "X-Amz-Target" in request.headers:
        return json_answer({"__type": refusal.json, "message": refusal.text}, 400)
    if request.mimetype == "application/x-www-form-urlencoded":
        error = f"<Type>Sender</Type><Code>{refusal.query}</Code><Message>{text}</Message>"
        return _xml(f"<ErrorResponse><Error>{error}</Error></ErrorResponse>", refusal.status)
    return json_answer(
        {"message": refusal.text}, refusal.status, [("x-amzn-ErrorType", refusal.json)]
    )


def _xml(body: str, status: int) -> Response:
    return Response(
        f'<?xml version="1.0" encoding="UTF-8"?>{body}', status, content_type="text/xml"
    )
