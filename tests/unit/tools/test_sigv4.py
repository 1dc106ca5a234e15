"""Signatures: AWS's own published example, and botocore's for requests of every kind."""

import datetime as dt
from typing import Any
from urllib.parse import quote

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.messages import AwsRequest
from cipipe.tools.aws.signing import path_of, query_of, signed

DAY = dt.datetime(2013, 5, 24, tzinfo=dt.UTC)
EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
HOST = "examplebucket.s3.amazonaws.com"
S3: dict[str, Any] = {"service": "s3", "region": "us-east-1", "credentials": EXAMPLE, "now": DAY}


def a_request(method: str, target: str, headers: dict[str, str], body: bytes) -> AwsRequest:
    origin = f"https://{headers['host']}"
    return AwsRequest(method=method, origin=origin, target=target, headers=headers, body=body)


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "signature"),
    [
        (
            "GET",
            "/test.txt",
            {"range": "bytes=0-9"},
            b"",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            path_of("/test$file.text"),
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            b"Welcome to Amazon S3.",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/?lifecycle=",
            {},
            b"",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            f"/?{query_of({'prefix': 'J', 'max-keys': '2'})}",
            {},
            b"",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_the_examples_in_awss_documentation(
    method: str, target: str, headers: dict[str, str], body: bytes, signature: str
) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html"""
    request = a_request(method, target, {"host": HOST, **headers}, body)
    sent = signed(request, **S3)
    assert sent.headers["authorization"].endswith(f"Signature={signature}")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30).map(
    str.strip
)


@given(
    method=st.sampled_from(["GET", "PUT", "HEAD", "DELETE"]),
    key=TEXT,
    query=st.dictionaries(
        st.sampled_from(["prefix", "versionId", "versions", "key-marker", "A", "a"]),
        TEXT,
        max_size=4,
    ),
    value=VALUE,
    body=st.binary(max_size=100),
    token=st.none() | st.just("a/token+of=sts"),
)
def test_s3_signatures_equal_botocores(
    method: str, key: str, query: dict[str, str], value: str, body: bytes, token: str | None
) -> None:
    target = path_of(f"/{key}") + (f"?{query_of(query)}" if query else "")
    headers = {"host": HOST, "x-amz-meta": value, "content-type": "text/plain"}
    request = a_request(method, target, headers, body)
    ours = signed(request, **{**S3, "credentials": Credentials("id", "secret", token)})
    assert ours.headers["authorization"] == _botocore(method, target, headers, body, token, "s3")


@given(form=st.dictionaries(TEXT, TEXT, max_size=5), token=st.none() | st.just("a/token"))
def test_sts_signatures_equal_botocores(form: dict[str, str], token: str | None) -> None:
    body = query_of(form).encode()
    headers = {
        "host": "sts.eu-central-1.amazonaws.com",
        "content-type": "application/x-www-form-urlencoded",
    }
    given_ = {**S3, "service": "sts", "credentials": Credentials("id", "secret", token)}
    ours = signed(a_request("POST", "/", headers, body), **given_)
    assert ours.headers["authorization"] == _botocore(
        "POST",
        "/",
        {**headers, "x-amz-content-sha256": ours.headers["x-amz-content-sha256"]},
        body,
        token,
        "sts",
    )


@given(TEXT)
def test_all_but_unreserved_characters_are_encoded(text: str) -> None:
    assert path_of(text) == quote(text, safe="-_.~/")
    assert query_of({"": text}) == "=" + quote(text, safe="-_.~")


def _botocore(
    method: str, target: str, headers: dict[str, str], body: bytes, token: str | None, service: str
) -> str:
    kinds = {"s3": botocore.auth.S3SigV4Auth, "sts": botocore.auth.SigV4Auth}
    keys = botocore.credentials.Credentials("id", "secret", token)
    signer = kinds[service](keys, service, "us-east-1")
    request = botocore.awsrequest.AWSRequest(
        method,
        f"https://{headers['host']}{target}",
        dict(headers),
        body,
        auth_path=target.partition("?")[0],
    )
    request.context["payload_signing_enabled"] = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: DAY.replace(tzinfo=None))
        signer.add_auth(request)
    return str(request.headers["Authorization"])
