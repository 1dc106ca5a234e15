"""AWS Signature Version 4, in the header of a request. Pure functions.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import functools
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote

from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.messages import AwsRequest

_UNRESERVED = "-_.~"


def path_of(text: str) -> str:
    """Encode a path as it is signed and sent.

    S3 expects it encoded once. Other services would expect it twice, but
    STS is called at `/` only.
    """
    return quote(text, safe=_UNRESERVED + "/")


def query_of(parameters: Mapping[str, str]) -> str:
    """Encode a query string as it is signed and sent: sorted by encoded name."""
    encoded = (
        (quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED))
        for name, value in parameters.items()
    )
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))


def signed(
    request: AwsRequest, *, service: str, region: str, credentials: Credentials, now: datetime
) -> AwsRequest:
    """The request with the headers that authenticate it.

    Its headers include `host`. `now` is in UTC; AWS accepts it for 15
    minutes.
    """
    moment = f"{now:%Y%m%dT%H%M%SZ}"
    day = moment[:8]
    digest = hashlib.sha256(request.body).hexdigest()

    headers = {**request.headers, "x-amz-date": moment, "x-amz-content-sha256": digest}
    if credentials.session_token:
        headers["x-amz-security-token"] = credentials.session_token

    # The "canonical request": header names sorted, white space in values
    # collapsed.
    path, _, query = request.target.partition("?")
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers))
    canonical = f"{request.method}\n{path}\n{query}\n{lines}\n{names}\n{digest}"
    canonical_digest = hashlib.sha256(canonical.encode()).hexdigest()

    scope = f"{day}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{canonical_digest}"
    key = signing_key(credentials.secret_access_key, day, region, service)
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()

    credential = f"Credential={credentials.access_key_id}/{scope}"
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
    )
    return AwsRequest(
        method=request.method,
        origin=request.origin,
        target=request.target,
        headers=headers,
        body=request.body,
    )


@functools.lru_cache(maxsize=8)
def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """The key for one day (`20260102`), region and service. Cached: it is four HMACs."""
    key = f"AWS4{secret}".encode()
    for scope in (day, region, service, "aws4_request"):
        key = hmac.digest(key, scope.encode(), "sha256")
    return key
