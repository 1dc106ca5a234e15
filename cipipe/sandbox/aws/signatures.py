"""Signature Version 4 as AWS verifies it: in a header, in a presigned URL, and over the chunks of a
body. Pure.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
"""

import hashlib
import hmac
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

from cipipe.tools.aws.signing import signing_key

ALGORITHM = "AWS4-HMAC-SHA256"
_SCOPE = r"([A-Za-z0-9]{1,128})/(\d{8})/([\w-]{1,40})/([\w-]{1,40})/aws4_request"
_HEADER = re.compile(
    rf"{ALGORITHM} Credential={_SCOPE},\s*SignedHeaders=([!-+\--~]+),\s*Signature=([0-9a-f]{{64}})"
)
_CREDENTIAL = re.compile(_SCOPE)
_EMPTY = hashlib.sha256(b"").hexdigest()
_CLOCK = timedelta(minutes=15)
_UNSIGNED = {"UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
_CHUNKED = {f"STREAMING-{ALGORITHM}-PAYLOAD", f"STREAMING-{ALGORITHM}-PAYLOAD-TRAILER"}


@dataclass(frozen=True)
class Received:
    """A request as it came over the wire: `path` and `query` still encoded.

    Header names are in lower case, and have no underscores: WSGI does not tell those from hyphens.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Proof:
    """What a request says about who signed it. `presigned` ones carry that in the query."""

    key: str
    day: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    moment: str
    expires: int | None
    token: str | None

    @property
    def presigned(self) -> bool:
        return self.expires is not None

    @property
    def scope(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/aws4_request"


class BadSignature(Exception):
    """The request is not signed as AWS wants it; the text says in what."""


def proof_of(request: Received) -> Proof | None:
    """The request's proof, not yet checked; None where it has none at all. Raises BadSignature
    where it makes no sense.
    """
    header = request.headers.get("authorization")
    query = dict(_pairs(request.query))
    asked = {name for name in query if name.startswith("X-Amz-")}
    if header is not None:
        found = _HEADER.fullmatch(header)
        if found is None or "X-Amz-Signature" in asked:
            raise BadSignature("the Authorization header is not one Signature Version 4")
        key, day, region, service, names, signature = found.groups()
        moment, expires, token = (
            request.headers.get("x-amz-date", ""),
            None,
            request.headers.get("x-amz-security-token"),
        )
    elif "X-Amz-Signature" in asked:
        found = _CREDENTIAL.fullmatch(query.get("X-Amz-Credential", ""))
        if found is None or query.get("X-Amz-Algorithm") != ALGORITHM:
            raise BadSignature("the query is not one Signature Version 4")
        key, day, region, service = found.groups()
        names, signature = query.get("X-Amz-SignedHeaders", ""), query["X-Amz-Signature"]
        moment, token = query.get("X-Amz-Date", ""), query.get("X-Amz-Security-Token")
        expires = (
            int(text)
            if (text := query.get("X-Amz-Expires", "0")).isdecimal() and len(text) < 8
            else 0
        )
    else:
        return None
    return Proof(
        key,
        day,
        region,
        service,
        tuple(names.lower().split(";")),
        signature,
        moment,
        expires,
        token,
    )


def verify(
    request: Received, proof: Proof, secret: str, *, body: Callable[[], bytes], now: datetime
) -> None:
    """Check that the holder of `secret` signed this request and its body, a moment ago. Raises
    BadSignature.
    """
    _check_time(proof, now)
    if "host" not in proof.signed_headers:
        raise BadSignature("the host is not signed")
    declared = request.headers.get("x-amz-content-sha256")
    if proof.presigned:
        digest = declared or ("UNSIGNED-PAYLOAD" if proof.service == "s3" else _EMPTY)
    else:
        digest = declared or hashlib.sha256(body()).hexdigest()
    key = signing_key(secret, proof.day, proof.region, proof.service)
    queries = {_sorted(request.query), _encoded(request.query)}
    if not any(
        _matches(_text(request, proof, query, digest), key, proof.signature) for query in queries
    ):
        raise BadSignature(
            "The request signature we calculated does not match the signature you provided."
        )
    if digest in _CHUNKED:
        _check_chunks(body(), proof, key)
    elif digest not in _UNSIGNED and digest != hashlib.sha256(body()).hexdigest():
        raise BadSignature(
            "The provided 'x-amz-content-sha256' header does not match what was computed."
        )


def _check_time(proof: Proof, now: datetime) -> None:
    try:
        signed = datetime.strptime(proof.moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise BadSignature("the request has no X-Amz-Date") from None
    if not proof.moment.startswith(proof.day):
        raise BadSignature("the credential's date is not the request's")
    latest = signed + (_CLOCK if proof.expires is None else timedelta(seconds=proof.expires))
    if not signed - _CLOCK <= now <= latest:
        raise BadSignature(
            f"Signature not yet current or expired: {proof.moment} is too far from {now:%Y%m%dT%H%M%SZ}"
        )


def _text(request: Received, proof: Proof, query: str, digest: str) -> bytes:
    """The string that is signed."""
    headers = "".join(
        f"{name}:{' '.join(request.headers.get(name.replace('_', '-'), '').split())}\n"
        for name in proof.signed_headers
    )
    path = _path(request.path, proof.service)
    canonical = (
        f"{request.method}\n{path}\n{query}\n{headers}\n{';'.join(proof.signed_headers)}\n{digest}"
    )
    # Headers come decoded as Latin-1; encoded again they are the bytes that were sent.
    hashed = hashlib.sha256(canonical.encode("latin-1", "replace")).hexdigest()
    return f"{ALGORITHM}\n{proof.moment}\n{proof.scope}\n{hashed}".encode()


def _path(path: str, service: str) -> str:
    """S3 signs the path as it is sent; every other service the normalised path, encoded once more."""
    if service == "s3":
        return path or "/"
    normal = posixpath.normpath(path).lstrip("/")
    return quote(
        f"/{normal}" + ("/" if path.endswith("/") and normal else "") if normal != "." else "/",
        safe="/-_.~",
    )


def _pairs(query: str) -> list[tuple[str, str]]:
    """The parameters, decoded."""
    parts = (part.partition("=") for part in query.split("&") if part)
    return [(unquote(name), unquote(value)) for name, _, value in parts]


def _sorted(query: str) -> str:
    """The query in order, encoded as it was sent."""
    parts = sorted(part.partition("=")[::2] for part in query.split("&") if part)
    return "&".join(f"{name}={value}" for name, value in parts if name != "X-Amz-Signature")


def _encoded(query: str) -> str:
    """The query in order, encoded as the specification says."""
    parts = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in _pairs(query)
    )
    return "&".join(f"{name}={value}" for name, value in parts if name != "X-Amz-Signature")


def _check_chunks(body: bytes, proof: Proof, key: bytes) -> None:
    """Check a body of signed chunks: each has its own signature, made from the one before it."""
    previous, place = proof.signature, 0
    while True:
        end = body.find(b"\r\n", place)
        found = re.fullmatch(
            rb"([0-9a-fA-F]{1,15});chunk-signature=([0-9a-f]{64})",
            body[place:end] if end > 0 else b"",
        )
        if found is None:
            raise BadSignature("the body is not made of signed chunks")
        length, given = int(found[1], 16), found[2].decode()
        data = body[end + 2 : end + 2 + length]
        place = end + 2 + length + (2 if length else 0)
        previous = _chunk(
            proof,
            key,
            previous,
            f"PAYLOAD\n{{}}\n{_EMPTY}\n{hashlib.sha256(data).hexdigest()}",
            given,
        )
        if length == 0:
            break
    trailer, _, rest = body[place:].partition(b"x-amz-trailer-signature:")
    if rest:
        names = trailer.replace(b"\r\n", b"\n")
        _chunk(
            proof,
            key,
            previous,
            f"TRAILER\n{{}}\n{hashlib.sha256(names).hexdigest()}",
            rest.strip().decode("latin-1"),
        )


def _chunk(proof: Proof, key: bytes, previous: str, what: str, given: str) -> str:
    text = f"{ALGORITHM}-" + what.format(f"{proof.moment}\n{proof.scope}\n{previous}")
    if not _matches(text.encode(), key, given):
        raise BadSignature("a chunk of the body has not the signature that it should have")
    return given


def _matches(text: bytes, key: bytes, signature: str) -> bool:
    return hmac.compare_digest(hmac.digest(key, text, "sha256").hex().encode(), signature.encode())
