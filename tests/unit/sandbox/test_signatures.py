"""Verifying signatures: AWS's published example of chunks, botocore's own signatures in every form,
and forgeries.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from cipipe.sandbox.aws.signatures import BadSignature, Proof, Received, proof_of, verify

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
REGION = "eu-central-1"
SCOPE = f"20260101/{REGION}/s3/aws4_request"


def as_sent(request: Any) -> tuple[Received, bytes]:
    """A request of botocore's as a server receives it."""
    place = urlsplit(request.url)
    headers = {name.lower().replace("_", "-"): value for name, value in request.headers.items()}
    body = request.body or b""
    data = body.encode() if isinstance(body, str) else body
    received = Received(request.method, place.path, place.query, {"host": place.netloc, **headers})
    return received, data


def signed_by_botocore(
    auth: Callable[..., Any],
    service: str,
    *,
    path: str = "/",
    token: str | None = None,
    **request: Any,
) -> tuple[Received, bytes]:
    url = f"http://127.0.0.1:4566{path}"
    made = botocore.awsrequest.AWSRequest(**{"method": "GET", "url": url, "data": b"", **request})
    auth(botocore.credentials.Credentials(KEY, SECRET, token), service, REGION).add_auth(made)
    return as_sent(made.prepare())


def check(
    received: Received, body: bytes, *, secret: str = SECRET, after: dt.timedelta = dt.timedelta()
) -> Proof:
    proof = proof_of(received)
    assert proof is not None
    verify(received, proof, secret, body=lambda: body, now=dt.datetime.now(dt.UTC) + after)
    return proof


FORMS: dict[str, dict[str, Any]] = {
    "query protocol": {
        "auth": botocore.auth.SigV4Auth,
        "service": "iam",
        "method": "POST",
        "data": b"Action=ListRoles&Version=2010-05-08",
        "headers": {"Content-Type": "application/x-www-form-urlencoded"},
    },
    "json with a session": {
        "auth": botocore.auth.SigV4Auth,
        "service": "ssm",
        "method": "POST",
        "data": b"{}",
        "headers": {"X-Amz-Target": "AmazonSSM.GetParameter"},
        "token": "session/token+with=signs",
    },
    "rest, a path encoded twice": {
        "auth": botocore.auth.SigV4Auth,
        "service": "scheduler",
        "path": f"/schedules/{quote('a b:c/d', safe='')}//x/",
    },
    "s3 with a body": {
        "auth": botocore.auth.S3SigV4Auth,
        "service": "s3",
        "method": "PUT",
        "data": b"content",
        "path": f"/bucket/{quote('dags/a b+c~é/../x.py')}",
        "headers": {"x-amz-meta-note": "two   spaces", "x-amz-meta-foo_bar": "x"},
    },
    "s3 with a query": {
        "auth": botocore.auth.S3SigV4Auth,
        "service": "s3",
        "path": f"/bucket?list-type=2&prefix={quote('a/b c')}&delimiter=%2F&versions",
    },
    "s3, presigned": {
        "auth": botocore.auth.S3SigV4QueryAuth,
        "service": "s3",
        "path": "/bucket/key?x-id=GetObject",
    },
    "sts, presigned": {
        "auth": botocore.auth.SigV4QueryAuth,
        "service": "sts",
        "path": "/?Action=GetCallerIdentity&Version=2011-06-15",
    },
    "s3, presigned, session": {
        "auth": botocore.auth.S3SigV4QueryAuth,
        "service": "s3",
        "method": "PUT",
        "path": "/bucket/key",
        "token": "a/b+c==",
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_what_botocore_signs_is_accepted(form: str) -> None:
    asked = FORMS[form]
    proof = check(*signed_by_botocore(**asked))
    assert (proof.key, proof.region, proof.service) == (KEY, REGION, asked["service"])
    assert proof.token == asked.get("token")


@pytest.mark.parametrize("form", FORMS)
def test_every_part_of_a_request_is_signed(form: str) -> None:
    received, body = signed_by_botocore(**FORMS[form])
    forged = [
        replace(received, method="DELETE"),
        replace(received, path=received.path + "x"),
        replace(received, query=f"{received.query}&acl=" if received.query else "acl="),
        replace(received, headers={**received.headers, "host": "elsewhere"}),
    ]
    for other in forged:
        with pytest.raises(BadSignature):
            check(other, body)
    with pytest.raises(BadSignature):
        check(received, body, secret=SECRET.lower())


@pytest.mark.parametrize(
    "form", [name for name, asked in FORMS.items() if "presigned" not in name and "data" in asked]
)
def test_the_body_is_signed(form: str) -> None:
    received, body = signed_by_botocore(**FORMS[form])
    with pytest.raises(BadSignature):
        check(received, body + b" ")


def test_a_body_may_be_unsigned() -> None:
    headers = {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
    received, _ = signed_by_botocore(
        botocore.auth.S3SigV4Auth, "s3", method="PUT", path="/b/k", data=b"1", headers=headers
    )
    if received.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD":
        check(received, b"another")
    else:  # botocore signs bodies over plain HTTP whatever it was told
        check(received, b"1")


@pytest.mark.parametrize(
    ("form", "after"),
    [
        ("query protocol", dt.timedelta(minutes=16)),
        ("query protocol", dt.timedelta(minutes=-16)),
        ("s3, presigned", dt.timedelta(hours=1, minutes=1)),
        ("s3, presigned", dt.timedelta(minutes=-16)),
    ],
)
def test_a_signature_expires(form: str, after: dt.timedelta) -> None:
    received, body = signed_by_botocore(**FORMS[form])
    check(received, body, after=dt.timedelta(minutes=10))
    with pytest.raises(BadSignature, match="too far"):
        check(received, body, after=after)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer x",
        f"AWS4-HMAC-SHA256 Credential={KEY}/{SCOPE}, SignedHeaders=host, Signature=0",
        f"AWS4-HMAC-SHA256 SignedHeaders=host, Credential={KEY}/{SCOPE}, Signature={'0' * 64}",
        f"AWS4-HMAC-SHA256 x/20260101/{REGION}/batch/aws4_request Credential={KEY}/{SCOPE}",
        f"AWS {KEY}:c2lnbmF0dXJl",
    ],
)
def test_refuses_other_authorization_headers(header: str) -> None:
    with pytest.raises(BadSignature):
        proof_of(Received("GET", "/", "", {"host": "x", "authorization": header}))


def test_refuses_two_proofs() -> None:
    received, _ = signed_by_botocore(**FORMS["s3, presigned"])
    headers, _ = signed_by_botocore(**FORMS["s3 with a query"])
    with pytest.raises(BadSignature):
        proof_of(replace(received, headers=headers.headers))


def test_an_unsigned_request_has_no_proof() -> None:
    assert proof_of(Received("GET", "/", "X-Amz-Date=1", {"host": "x"})) is None


def test_the_host_has_to_be_signed() -> None:
    received, body = signed_by_botocore(**FORMS["s3, presigned"])
    proof = proof_of(received)
    assert proof is not None
    with pytest.raises(BadSignature, match="host"):
        verify(
            received,
            replace(proof, signed_headers=("x-amz-date",)),
            SECRET,
            body=lambda: body,
            now=dt.datetime.now(dt.UTC),
        )


# --- chunks: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html ---

MOMENT = dt.datetime(2013, 5, 24, tzinfo=dt.UTC)
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
CHUNKS = (
    (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
    (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
    (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
)


def streamed() -> tuple[Received, bytes]:
    headers = {
        "host": "s3.amazonaws.com",
        "x-amz-date": "20130524T000000Z",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "66560",
        "content-length": "66824",
    }
    names = ";".join(sorted(headers))
    scope = f"{KEY}/20130524/us-east-1/s3/aws4_request"
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={scope},SignedHeaders={names},Signature={SEED}"
    )
    body = b"".join(
        b"%x;chunk-signature=%s\r\n%s\r\n" % (size, sig.encode(), b"a" * size)
        for size, sig in CHUNKS
    )
    return Received("PUT", "/examplebucket/chunkObject.txt", "", headers), body


def check_streamed(received: Received, body: bytes) -> None:
    proof = proof_of(received)
    assert proof is not None
    verify(received, proof, SECRET, body=lambda: body, now=MOMENT)


def test_the_chunks_of_awss_documentation() -> None:
    received, body = streamed()
    assert len(body) == 66824
    check_streamed(received, body)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"a" * 1024, b"b" * 1024),
        lambda body: body[: body.rindex(b"0;chunk")],
        lambda body: body[: len(body) // 2],
        lambda body: b"",
        lambda body: b"a" * 66560,
        lambda body: body.replace(b"chunk-signature=0055", b"chunk-signature=0056"),
    ],
)
def test_refuses_changed_chunks(change: Callable[[bytes], bytes]) -> None:
    received, body = streamed()
    with pytest.raises(BadSignature):
        check_streamed(received, change(body))
