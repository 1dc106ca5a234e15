"""What a token says, read without trusting it: for display, and for checks
before AWS is called.

The text of a token is a secret, and no message here contains any of it.
Claims are not secret.
"""

import base64
import binascii
import json
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from cipipe import bounded
from cipipe.errors import IdentityError

# Seconds by which the clocks of this machine and the issuer may differ
# before a check refuses.
LEEWAY = 60

# Signature algorithms that STS accepts: RSA, and since November 2024 ECDSA.
# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
ALGORITHMS = ("RS256", "ES256", "ES384", "ES512")

# Without one of these claims STS refuses a token, whatever the role's trust policy says.
# https://openid.net/specs/openid-connect-core-1_0.html#IDToken
REQUIRED_CLAIMS = ("iss", "sub", "aud", "exp", "iat")

_HINT = "Is it the job's ID token, passed completely, without quotes or line breaks?"


class TokenClaims(msgspec.Struct, frozen=True):
    """A decoded JWT. Neither part is verified."""

    header: Mapping[str, Any]
    payload: Mapping[str, Any]

    @property
    def issuer(self) -> str:
        return _text(self, "iss")

    @property
    def subject(self) -> str:
        return _text(self, "sub")

    @property
    def audiences(self) -> tuple[str, ...]:
        """The `aud` claim, which is one string or a list of them."""
        found = self.payload.get("aud", ())
        if isinstance(found, str):
            return (found,)
        return tuple(map(str, found)) if isinstance(found, list) else ()

    @property
    def signed(self) -> bool:
        """False for `alg: none`, in upper or lower case, and for a header without an algorithm."""
        return str(self.header.get("alg", "none")).strip().lower() not in {"none", ""}


def decode(token: str) -> TokenClaims:
    """Read a JWT in compact form (RFC 7519, RFC 7515 section 3.1) without
    verifying anything.

    Raises IdentityError `oidc-token-malformed`.
    """
    parts = token.split(".")
    if len(parts) != 3:
        raise _malformed(f"a JWT has three parts with dots between them, this has {len(parts)}")
    header = _part(parts[0], "header")
    payload = _part(parts[1], "payload")
    return TokenClaims(header, payload)


def check(claims: TokenClaims, *, audience: str, now: datetime) -> None:
    """Refuse a token that AWS would certainly refuse.

    `audience` is the one that this provider's tokens are requested for.
    Raises IdentityError `oidc-token-unsigned`, `oidc-token-expired`,
    `oidc-token-not-yet-valid`, `oidc-audience-mismatch`,
    `oidc-token-malformed` (a claim is missing or has the wrong type).
    """
    check_signed(claims)
    check_times(claims, now=now)
    if audience not in claims.audiences:
        actual = ", ".join(claims.audiences) or "none"
        raise IdentityError(
            "oidc-audience-mismatch",
            f"the token is for another audience: expected {audience}, actual {actual}",
            hint="Request the token for that audience in the job's definition, or set `audience` "
            "under `[oidc]` in cipipe.toml. The provider in IAM has to list it as well.",
        )
    check_form(claims)


def check_form(claims: TokenClaims, *, needed: Container[str] = REQUIRED_CLAIMS) -> None:
    """Refuse a token without one of the `needed` claims, or with a claim of
    the wrong type.

    Raises IdentityError `oidc-token-malformed`.
    """
    for name in REQUIRED_CLAIMS:
        if claims.payload.get(name) is None:
            if name in needed:
                raise _malformed(f"it has no `{name}` claim")
        elif name in {"iss", "sub"} and not _text(claims, name):
            raise _malformed(f"its `{name}` claim is empty, or not a string")
        elif name == "aud" and not any(claims.audiences):
            raise _malformed("its `aud` claim is neither a string nor a list of strings")
        elif name in {"exp", "iat"}:
            _time(claims, name)

    if claims.issuer and not claims.issuer.startswith("https://"):
        raise _malformed("its `iss` claim does not start with https://, as IAM requires")


def check_signed(claims: TokenClaims) -> None:
    """Refuse a token without a signature, or with one that STS does not
    accept.

    Raises IdentityError `oidc-token-unsigned`, `oidc-token-malformed`.
    """
    if not claims.signed:
        raise IdentityError(
            "oidc-token-unsigned",
            "the token is not signed (its header says `alg: none`); anybody could have written it",
            hint="Use the token that the CI provider issues for this job, unchanged.",
        )
    if claims.header.get("alg") not in ALGORITHMS:
        raise _malformed(f"the `alg` of its header is none of {', '.join(ALGORITHMS)}")


def check_times(claims: TokenClaims, *, now: datetime, needed: bool = True) -> None:
    """Refuse a token that has expired or is not valid yet.

    One without `exp` is refused as well, unless `needed` is false. Raises
    IdentityError `oidc-token-expired`, `oidc-token-not-yet-valid`,
    `oidc-token-malformed`.
    """
    expires = _time(claims, "exp")
    valid_from = _time(claims, "nbf")
    moment = now.timestamp()

    if expires is None and needed:
        raise _malformed("it has no `exp` claim; AWS does not accept tokens that never expire")
    if expires is not None and moment >= expires + LEEWAY:
        raise IdentityError(
            "oidc-token-expired",
            f"the token expired {round(moment - expires)} s ago: `exp` is {_iso(expires)}, now is "
            f"{_iso(moment)}",
            hint="Tokens are valid for minutes. Run the job again for a new one, or exchange it "
            "earlier in the job.",
        )
    if valid_from is not None and moment < valid_from - LEEWAY:
        raise IdentityError(
            "oidc-token-not-yet-valid",
            f"the token is valid from {_iso(valid_from)} (`nbf`), now is {_iso(moment)}",
            hint="The clock of this machine is behind the issuer's: set it by NTP.",
        )


def _part(text: str, name: str) -> dict[str, Any]:
    padded = text + "=" * (-len(text) % 4)
    try:
        found = bounded.loads(base64.b64decode(padded, altchars=b"-_", validate=True))

        # JSON may escape half of a surrogate pair, which nothing could
        # print.
        json.dumps(found, ensure_ascii=False).encode()
    except (binascii.Error, ValueError):
        raise _malformed(f"its {name} is not base64url-encoded JSON") from None
    if not isinstance(found, dict):
        raise _malformed(f"its {name} is not a JSON object")
    return found


def _text(claims: TokenClaims, name: str) -> str:
    found = claims.payload.get(name)
    return found if isinstance(found, str) else ""


def _time(claims: TokenClaims, name: str) -> float | None:
    found = claims.payload.get(name)
    if found is None:
        return None

    # Times in milliseconds would make a token valid for thousands of years.
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 1e11:
        raise _malformed(f"its `{name}` claim is not a time in seconds")
    return float(found)


def _malformed(detail: str) -> IdentityError:
    message = f"the token is not a JWT that AWS accepts: {detail}"
    return IdentityError("oidc-token-malformed", message, hint=_HINT)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
