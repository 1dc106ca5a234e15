"""AWS's Signature Version 4, in the header of a request. Pure.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import functools
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from cipipe.tools.aws.clients import Credentials

_UNRESERVED = "-_.~"


def path_of(text: str) -> str:
    """A path as it is signed and sent: S3 has it encoded once, and other services are asked at `/`."""
    return quote(text, safe=_UNRESERVED + "/")


def query_of(parameters: Mapping[str, str]) -> str:
    """A query string as it is signed and sent: encoded, in order."""
    encoded = (
        (quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED))
        for name, value in parameters.items()
    )
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))


def signed(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    service: str,
    region: str,
    credentials: "Credentials",
    now: datetime,
) -> dict[str, str]:
    """The headers of a request with those that prove who sends it. `headers` are in lower case and
    include `host`.

    `target` is a path and query made by `path_of` and `query_of`; `now` is in UTC, and AWS takes it
    within 15 minutes.
    """
    moment = f"{now:%Y%m%dT%H%M%SZ}"
    digest = hashlib.sha256(body).hexdigest()
    sent = {**headers, "x-amz-date": moment, "x-amz-content-sha256": digest}
    if credentials.session_token:
        sent["x-amz-security-token"] = credentials.session_token
    path, _, query = target.partition("?")
    names = ";".join(sorted(sent))
    lines = "".join(f"{name}:{' '.join(sent[name].split())}\n" for name in sorted(sent))
    request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}"
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = signing_key(credentials.secret_access_key, moment[:8], region, service)
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    who = f"Credential={credentials.access_key_id}/{scope}"
    return {
        **sent,
        "authorization": f"AWS4-HMAC-SHA256 {who}, SignedHeaders={names}, Signature={signature}",
    }


@functools.lru_cache(maxsize=8)
def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """The key that requests of one day (`20260102`) to one service of one region are signed with."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
