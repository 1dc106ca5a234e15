"""What each of AWS's protocols says to keys of a session that has expired.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and …/IAM/latest/APIReference/CommonErrors.html
"""

from cipipe.sandbox.web import Request, Response, json_answer

_TEXT = "The security token included in the request is expired"


def expired(service: str, request: Request) -> Response:
    """The answer of a service, by its name in the signature's scope."""
    if service == "s3":
        return _xml("<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>", 400)
    if service == "ec2":
        error = "<Code>RequestExpired</Code><Message>Request has expired.</Message>"
        return _xml(f"<Response><Errors><Error>{error}</Error></Errors></Response>", 400)
    if "X-Amz-Target" in request.headers:
        return json_answer({"__type": "ExpiredTokenException", "message": _TEXT}, 400)
    if request.mimetype == "application/x-www-form-urlencoded":
        error = f"<Type>Sender</Type><Code>ExpiredToken</Code><Message>{_TEXT}</Message>"
        return _xml(f"<ErrorResponse><Error>{error}</Error></ErrorResponse>", 403)
    return json_answer({"message": _TEXT}, 403, [("x-amzn-ErrorType", "ExpiredTokenException")])


def _xml(body: str, status: int) -> Response:
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>{body}', status, content_type="text/xml")
