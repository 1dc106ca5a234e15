import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cipipe.errors import IdentityError
from cipipe.oidc.claims import ALGORITHMS, REQUIRED_CLAIMS, TokenClaims, check, check_form, decode

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MOMENT = int(NOW.timestamp())


def part(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def token(header: Any, payload: Any) -> str:
    return f"{part(header)}.{part(payload)}.c2lnbmF0dXJl"


def claims(header: dict[str, Any] | None = None, **payload: Any) -> TokenClaims:
    usual = {
        "iss": "https://x",
        "sub": "s",
        "aud": "a",
        "exp": MOMENT + 300,
        "iat": MOMENT - 5,
        "nbf": MOMENT - 5,
    }
    return TokenClaims(header or {"alg": "RS256"}, {**usual, **payload})


def test_decodes_header_and_payload() -> None:
    found = decode(
        token(
            {"alg": "RS256", "kid": "k"},
            {"sub": "repo:ö/r:ref", "iss": "https://x", "aud": ["a", "b"]},
        )
    )
    assert found.header == {"alg": "RS256", "kid": "k"}
    assert (found.subject, found.issuer, found.audiences) == (
        "repo:ö/r:ref",
        "https://x",
        ("a", "b"),
    )


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
def test_refuses_malformed_tokens_without_quoting_them(text: str) -> None:
    with pytest.raises(IdentityError) as caught:
        decode(text)
    assert caught.value.id == "oidc-token-malformed"
    assert "secret" not in caught.value.message


def test_a_valid_token_passes() -> None:
    check(claims(), audience="a", now=NOW)
    check(claims(aud=["b", "a"]), audience="a", now=NOW)
    for algorithm in ALGORITHMS:
        check(claims({"alg": algorithm}), audience="a", now=NOW)
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
        (claims(iat=None), "oidc-token-malformed"),
        (claims(iat="now"), "oidc-token-malformed"),
        (claims(iat=True), "oidc-token-malformed"),
        (claims(iss=None), "oidc-token-malformed"),
        (claims(iss=["https://x"]), "oidc-token-malformed"),
        (claims(iss="http://x"), "oidc-token-malformed"),
        (claims(iss="x"), "oidc-token-malformed"),
        (claims(sub=None), "oidc-token-malformed"),
        (claims(sub=""), "oidc-token-malformed"),
        (claims(sub={"a": "b"}), "oidc-token-malformed"),
        (claims({"alg": "HS256"}), "oidc-token-malformed"),
        (claims({"alg": "rs256"}), "oidc-token-malformed"),
        (claims({"alg": ["RS256"]}), "oidc-token-malformed"),
        (claims({"alg": " none"}), "oidc-token-unsigned"),
    ],
)
def test_refuses(found: TokenClaims, id: str) -> None:
    with pytest.raises(IdentityError) as caught:
        check(found, audience="a", now=NOW)
    assert caught.value.id == id
    assert caught.value.hint


def test_says_expected_and_actual_audience() -> None:
    with pytest.raises(IdentityError, match="expected a, actual b, c"):
        check(claims(aud=["b", "c"]), audience="a", now=NOW)


@pytest.mark.parametrize("name", REQUIRED_CLAIMS)
def test_every_required_claim_is_checked(name: str) -> None:
    found = claims()
    without = TokenClaims(
        found.header, {key: value for key, value in found.payload.items() if key != name}
    )
    with pytest.raises(IdentityError, match=f"no `{name}` claim"):
        check_form(without)
    check_form(without, needed=())


def test_an_issuer_or_subject_of_the_wrong_type_is_empty() -> None:
    found = claims(iss=["https://x"], sub={"a": "b"})
    assert (found.issuer, found.subject) == ("", "")
