"""Which signatures the sandbox's STS takes: a token that is good gets as far as the role, which is
not there.
"""

import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cipipe.sandbox.aws.sts import Sts

CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
ISSUER = "https://gitlab.com"


class Account:
    """Stands in for moto: an account with a provider for one audience, and no role."""

    def client_ids(self, *_: str) -> list[str]:
        return ["a"]

    def role(self, *_: str) -> None:
        return None


def asked(key: Any, published: Any, algorithm: str, **claims: Any) -> str:
    """What STS says to a token that this key signed, where the issuer publishes that one."""
    now = int(time.time())
    payload = {"iss": ISSUER, "sub": "s", "aud": "a", "iat": now, "exp": now + 300, **claims}
    kept = {name: value for name, value in payload.items() if value is not None}
    elliptic = isinstance(published, ec.EllipticCurvePublicKey)
    write = jwt.algorithms.ECAlgorithm.to_jwk if elliptic else jwt.algorithms.RSAAlgorithm.to_jwk
    jwk = {**json.loads(write(published)), "kid": "k"}
    documents = {
        f"{ISSUER}/.well-known/openid-configuration": {
            "issuer": ISSUER,
            "jwks_uri": f"{ISSUER}/keys",
        },
        f"{ISSUER}/keys": {"keys": [jwk]},
    }
    form = {
        "RoleArn": "arn:aws:iam::111111111111:role/x",
        "RoleSessionName": "session",
        "WebIdentityToken": jwt.encode(kept, key, algorithm=algorithm, headers={"kid": "k"}),
    }
    sts = Sts(Account(), documents.__getitem__)  # type: ignore[arg-type]  # all of moto that is asked here
    return sts.web_identity(form, "eu-central-1").get_data(as_text=True)


@pytest.mark.parametrize("algorithm", CURVES)
def test_elliptic_curves_count(algorithm: str) -> None:
    key, other = (ec.generate_private_key(CURVES[algorithm]) for _ in range(2))
    assert "<Code>AccessDenied</Code>" in asked(key, key.public_key(), algorithm)
    assert "Token signature invalid" in asked(key, other.public_key(), algorithm)


def test_a_key_of_another_kind_than_the_header_says() -> None:
    key, elliptic = rsa.generate_private_key(65537, 2048), ec.generate_private_key(CURVES["ES256"])
    assert "<Code>AccessDenied</Code>" in asked(key, key.public_key(), "RS256")
    assert "<Code>InvalidIdentityToken</Code>" in asked(elliptic, key.public_key(), "ES256")
    assert "<Code>InvalidIdentityToken</Code>" in asked(key, elliptic.public_key(), "RS256")


@pytest.mark.parametrize("algorithm", ["HS256", "HS512"])
def test_a_secret_that_both_sides_know_is_no_signature(algorithm: str) -> None:
    published = rsa.generate_private_key(65537, 2048).public_key()
    assert "is not a valid JWT" in asked(
        "a secret of more than thirty-two bytes, or of 64 as HS512 has it", published, algorithm
    )


@pytest.mark.parametrize(
    "claims",
    [{"sub": None}, {"sub": ""}, {"iat": None}, {"exp": None}, {"iss": "http://gitlab.com"}],
)
def test_claims_that_a_token_has_to_have(claims: dict[str, Any]) -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert "is not a valid JWT" in asked(key, key.public_key(), "RS256", **claims)
