"""Signature Version 4 as AWS verifies it: in a header, in a presigned URL,
and over the chunks of a body. Pure.

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
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15});chunk-signature=([0-9a-f]{64})")
_EMPTY = hashlib.sha256(b"").hexdigest()

# How far a request's date may be from now, as at AWS.
_CLOCK = timedelta(minutes=15)

# Values of x-amz-content-sha256 that leave the body out of the signature,
# and those that announce a body of signed chunks.
_UNSIGNED = {"UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
_CHUNKED = {f"STREAMING-{ALGORITHM}-PAYLOAD", f"STREAMING-{ALGORITHM}-PAYLOAD-TRAILER"}

_MISMATCH = "The request signature we calculated does not match the signature you provided."


@dataclass(frozen=True)
class Received:
    """A request as it came over the wire."""

    method: str

    # Still encoded.
    path: str
    query: str

    # Names in lower case and without underscores: WSGI cannot tell those
    # from hyphens.
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a request says about who signed it, not yet verified."""

    # The access key id.
    key: str

    # The scope of the signing key; the day as YYYYMMDD.
    day: str
    region: str
    service: str
    signed_headers: tuple[str, ...]

    # In hex.
    signature: str

    # When it was signed, as YYYYMMDDThhmmssZ.
    moment: str

    # Seconds that a presigned URL is valid; None for a signature in a
    # header.
    expires: int | None

    # The session token; None for long-lived keys.
    token: str | None

    @property
    def presigned(self) -> bool:
        return self.expires is not None

    @property
    def scope(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/aws4_request"


class BadSignature(Exception):
    """The request is not signed as AWS requires; the text says why."""


def proof_of(request: Received) -> Proof | None:
    """The request's proof, not yet verified; None if it is not signed.

    Raises BadSignature if it is malformed, or if there are two.
    """
    query = dict(_pairs(request.query))
    presigned = "X-Amz-Signature" in query
    if "authorization" in request.headers:
        if presigned:
            raise BadSignature("the Authorization header is not one Signature Version 4")
        return _in_header(request.headers)
    return _in_query(query) if presigned else None


def _in_header(headers: Mapping[str, str]) -> Proof:
    found = _HEADER.fullmatch(headers["authorization"])
    if found is None:
        raise BadSignature("the Authorization header is not one Signature Version 4")
    key, day, region, service, names, signature = found.groups()
    return Proof(
        key=key,
        day=day,
        region=region,
        service=service,
        signed_headers=tuple(names.lower().split(";")),
        signature=signature,
        moment=headers.get("x-amz-date", ""),
        expires=None,
        token=headers.get("x-amz-security-token"),
    )


def _in_query(query: Mapping[str, str]) -> Proof:
    found = _CREDENTIAL.fullmatch(query.get("X-Amz-Credential", ""))
    if found is None or query.get("X-Amz-Algorithm") != ALGORITHM:
        raise BadSignature("the query is not one Signature Version 4")

    # What is not a number of seconds, or too long for a timedelta, has
    # expired at once.
    text = query.get("X-Amz-Expires", "0")
    expires = int(text) if text.isdecimal() and len(text) < 8 else 0

    key, day, region, service = found.groups()
    return Proof(
        key=key,
        day=day,
        region=region,
        service=service,
        signed_headers=tuple(query.get("X-Amz-SignedHeaders", "").lower().split(";")),
        signature=query["X-Amz-Signature"],
        moment=query.get("X-Amz-Date", ""),
        expires=expires,
        token=query.get("X-Amz-Security-Token"),
    )


def verify(
    request: Received, proof: Proof, secret: str, *, body: Callable[[], bytes], now: datetime
) -> None:
    """Check that the owner of `secret` signed this request and its body, a
    moment ago.

    Raises BadSignature.
    """
    _check_time(proof, now)
    if "host" not in proof.signed_headers:
        raise BadSignature("the host is not signed")

    declared = request.headers.get("x-amz-content-sha256")
    if proof.presigned:
        digest = declared or ("UNSIGNED-PAYLOAD" if proof.service == "s3" else _EMPTY)
    else:
        digest = declared or hashlib.sha256(body()).hexdigest()

    # Clients encode more or fewer characters of a query than the
    # specification says.
    key = signing_key(secret, day=proof.day, region=proof.region, service=proof.service)
    queries = {_sorted(request.query), _encoded(request.query)}
    texts = [_text(request, proof, query=query, digest=digest) for query in queries]
    if not any(_matches(text, key, proof.signature) for text in texts):
        raise BadSignature(_MISMATCH)

    # The signature covers the declared digest; the body has to have it.
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
            f"Signature not yet current or expired: {proof.moment} is too far from "
            f"{now:%Y%m%dT%H%M%SZ}"
        )


def _text(request: Received, proof: Proof, *, query: str, digest: str) -> bytes:
    """The string that is signed."""
    headers = ""
    for name in proof.signed_headers:
        value = request.headers.get(name.replace("_", "-"), "")
        headers += f"{name}:{' '.join(value.split())}\n"
    path = _path(request.path, proof.service)
    names = ";".join(proof.signed_headers)
    canonical = f"{request.method}\n{path}\n{query}\n{headers}\n{names}\n{digest}"

    # Headers come decoded as Latin-1; encoded again they are the bytes that
    # were sent.
    hashed = hashlib.sha256(canonical.encode("latin-1", "replace")).hexdigest()
    return f"{ALGORITHM}\n{proof.moment}\n{proof.scope}\n{hashed}".encode()


def _path(path: str, service: str) -> str:
    """S3 signs the path as it is sent, other services the normalised path, encoded once more."""
    if service == "s3":
        return path or "/"
    normal = posixpath.normpath(path)
    if normal == ".":
        return "/"
    normal = normal.lstrip("/")
    end = "/" if path.endswith("/") and normal else ""
    return quote(f"/{normal}{end}", safe="/-_.~")


def _pairs(query: str) -> list[tuple[str, str]]:
    """The parameters, decoded."""
    parts = (part.partition("=") for part in query.split("&") if part)
    return [(unquote(name), unquote(value)) for name, _, value in parts]


def _sorted(query: str) -> str:
    """The query in order, encoded as it was sent."""
    parts = sorted(part.partition("=")[::2] for part in query.split("&") if part)
    return _without_signature(parts)


def _encoded(query: str) -> str:
    """The query in order, encoded as the specification says."""
    parts = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in _pairs(query)
    )
    return _without_signature(parts)


def _without_signature(parts: list[tuple[str, str]]) -> str:
    return "&".join(f"{name}={value}" for name, value in parts if name != "X-Amz-Signature")


def _check_chunks(body: bytes, proof: Proof, key: bytes) -> None:
    """Check a body of signed chunks. Each signature is made from the one before it."""
    previous = proof.signature
    offset = 0
    length = -1
    while length != 0:
        end = body.find(b"\r\n", offset)
        found = _CHUNK.fullmatch(body[offset:end] if end > 0 else b"")
        if found is None:
            raise BadSignature("the body is not made of signed chunks")
        length = int(found[1], 16)
        start = end + 2
        data = body[start : start + length]

        # The last chunk is empty, and has no line end of its own: the
        # trailer follows.
        offset = start + length + (2 if length else 0)
        hashed = hashlib.sha256(data).hexdigest()
        text = f"PAYLOAD\n{_chain(proof, previous)}\n{_EMPTY}\n{hashed}"
        previous = _check_chunk(key, text, found[2])

    trailer, _, signature = body[offset:].partition(b"x-amz-trailer-signature:")
    if signature:
        names = trailer.replace(b"\r\n", b"\n")
        text = f"TRAILER\n{_chain(proof, previous)}\n{hashlib.sha256(names).hexdigest()}"
        _check_chunk(key, text, signature.strip())


def _chain(proof: Proof, previous: str) -> str:
    """The lines that tie a chunk to its request and to the chunk before it."""
    return f"{proof.moment}\n{proof.scope}\n{previous}"


def _check_chunk(key: bytes, text: str, signature: bytes) -> str:
    given = signature.decode("latin-1")
    if not _matches(f"{ALGORITHM}-{text}".encode(), key, given):
        raise BadSignature("the signature of a chunk of the body is wrong")
    return given


def _matches(text: bytes, key: bytes, signature: str) -> bool:
    expected = hmac.digest(key, text, "sha256").hex()

    # In constant time: how long a comparison takes must not reveal how much
    # of it was right.
    return hmac.compare_digest(expected.encode(), signature.encode())
