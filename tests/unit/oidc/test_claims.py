import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cipipe.errors import IdentityError
from cipipe.oidc.claims import Claims, check, decode

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MOMENT = int(NOW.timestamp())


def part(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def token(header: Any, payload: Any) -> str:
    return f"{part(header)}.{part(payload)}.c2lnbmF0dXJl"


def claims(header: dict[str, Any] | None = None, **payload: Any) -> Claims:
    return Claims(header or {"alg": "RS256"}, {"aud": "a", "exp": MOMENT + 300, "nbf": MOMENT - 5, **payload})


def test_decodes_header_and_payload() -> None:
    found = decode(token({"alg": "RS256", "kid": "k"}, {"sub": "repo:ö/r:ref", "iss": "https://x", "aud": ["a", "b"]}))
    assert found.header == {"alg": "RS256", "kid": "k"}
    assert (found.subject, found.issuer, found.audiences) == ("repo:ö/r:ref", "https://x", ("a", "b"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secretsecret",
        "secret.secret",
        "a.b.c.d",
        f"secret!.{part({})}.x",
        f"{part({})}.{part([])}.x",
        f"{part('secret')}.{part({})}.x",
        f"{part({})}.{base64.urlsafe_b64encode(b'[' * 100_000).decode()}.x",
    ],
)
def test_refuses_what_is_no_jwt_without_quoting_it(text: str) -> None:
    with pytest.raises(IdentityError) as caught:
        decode(text)
    assert caught.value.id == "oidc-token-malformed"
    assert "secret" not in caught.value.message


def test_a_good_token_passes() -> None:
    check(claims(), audience="a", now=NOW)
    check(claims(aud=["b", "a"]), audience="a", now=NOW)
    check(claims(exp=MOMENT - 59, nbf=MOMENT + 60), audience="a", now=NOW)  # within the leeway


@pytest.mark.parametrize(
    ("found", "id"),
    [
        (claims(exp=MOMENT - 60), "oidc-token-expired"),
        (claims(nbf=MOMENT + 61), "oidc-token-not-yet-valid"),
        (claims(aud="b"), "oidc-audience-mismatch"),
        (claims(aud=["b", "c"]), "oidc-audience-mismatch"),
        (claims(aud=None), "oidc-audience-mismatch"),
        (claims({"alg": "none"}), "oidc-token-unsigned"),
        (claims({"alg": "NoNe"}), "oidc-token-unsigned"),
        (claims({"typ": "JWT"}), "oidc-token-unsigned"),
        (claims(exp="soon"), "oidc-token-malformed"),
        (claims(exp=True), "oidc-token-malformed"),
        (claims(exp=1e300), "oidc-token-malformed"),
        (claims(exp=-9e10), "oidc-token-malformed"),
        (claims(exp=None), "oidc-token-malformed"),
    ],
)
def test_refuses(found: Claims, id: str) -> None:
    with pytest.raises(IdentityError) as caught:
        check(found, audience="a", now=NOW)
    assert caught.value.id == id
    assert caught.value.hint


def test_says_expected_and_actual_audience() -> None:
    with pytest.raises(IdentityError, match="expected a, actual b, c"):
        check(claims(aud=["b", "c"]), audience="a", now=NOW)
