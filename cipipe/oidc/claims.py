"""What a token says, read without trusting it: for display, and for checks before AWS is asked.

The text of a token is a secret; no message here contains any of it. Claims are not secret.
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

LEEWAY = 60
"""Seconds by which the clocks of this machine and of the issuer may differ before a check refuses."""

ALGORITHMS = ("RS256", "ES256", "ES384", "ES512")
"""Signatures that STS takes: RSA, and since November 2024 ECDSA.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

REQUIRED_CLAIMS = ("iss", "sub", "aud", "exp", "iat")
"""Claims that a token has to have, or STS refuses it whatever the role's trust policy says.

https://openid.net/specs/openid-connect-core-1_0.html#IDToken
"""

_HINT_TEXT = "Is it the job's ID token, and is it passed whole, without quotes or line breaks?"


class TokenClaims(msgspec.Struct, frozen=True):
    """A decoded JWT: header and payload, neither of them verified."""

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
        return (
            (found,)
            if isinstance(found, str)
            else tuple(map(str, found))
            if isinstance(found, list)
            else ()
        )

    @property
    def signed(self) -> bool:
        """False for `alg: none`, in any case, and for a header without an algorithm."""
        return str(self.header.get("alg", "none")).strip().lower() not in {"none", ""}


def decode(token: str) -> TokenClaims:
    """Read a JWT in compact form (RFC 7519, RFC 7515 section 3.1) without verifying anything.

    Raises IdentityError `oidc-token-malformed`.
    """
    parts = token.split(".")
    if len(parts) != 3:
        raise _malformed(f"a JWT has three parts with dots between them, this has {len(parts)}")
    header, payload = _part(parts[0], "header"), _part(parts[1], "payload")
    return TokenClaims(header, payload)


def check(claims: TokenClaims, *, audience: str, now: datetime) -> None:
    """Refuse a token that AWS would certainly refuse. `audience` is what this provider's tokens are
    asked for with.

    Raises IdentityError `oidc-token-unsigned`, `oidc-token-expired`, `oidc-token-not-yet-valid`,
    `oidc-audience-mismatch`, `oidc-token-malformed` (a claim that is missing or not of its type).
    """
    check_signed(claims)
    check_times(claims, now=now)
    if audience not in claims.audiences:
        actual = ", ".join(claims.audiences) or "none"
        raise IdentityError(
            "oidc-audience-mismatch",
            f"the token is for another audience: expected {audience}, actual {actual}",
            hint="Ask for the token with that audience in the job's definition, or set `audience` under `[oidc]` in "
            "cipipe.toml. The provider in IAM has to list it as well.",
        )
    check_form(claims)


def check_form(claims: TokenClaims, *, needed: Container[str] = REQUIRED_CLAIMS) -> None:
    """Refuse a token that lacks one of the `needed` claims, or has one of REQUIRED_CLAIMS that is
    not of its type.

    Raises IdentityError `oidc-token-malformed`.
    """
    for name in REQUIRED_CLAIMS:
        if claims.payload.get(name) is None:
            if name in needed:
                raise _malformed(f"it has no `{name}` claim")
        elif name in {"iss", "sub"} and not _text(claims, name):
            raise _malformed(f"its `{name}` claim is not a text, or is empty")
        elif name == "aud" and not any(claims.audiences):
            raise _malformed("its `aud` claim is neither a text nor a list of them")
        elif name in {"exp", "iat"}:
            _time(claims, name)
    if claims.issuer and not claims.issuer.startswith("https://"):
        raise _malformed(
            "its `iss` claim does not begin with https://, as every provider in IAM does"
        )


def check_signed(claims: TokenClaims) -> None:
    """Refuse a token that nobody signed, or in a way that STS does not take.

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
    """Refuse a token that has expired or does not hold yet; one without `exp` unless it is not
    `needed`.

    Raises IdentityError `oidc-token-expired`, `oidc-token-not-yet-valid`, `oidc-token-malformed`.
    """
    expires, begins = _time(claims, "exp"), _time(claims, "nbf")
    moment = now.timestamp()
    if expires is None and needed:
        raise _malformed("it has no `exp` claim, so it never expires, and AWS takes no such token")
    if expires is not None and moment >= expires + LEEWAY:
        raise IdentityError(
            "oidc-token-expired",
            f"the token expired {round(moment - expires)} s ago: `exp` is {_iso(expires)}, now is {_iso(moment)}",
            hint="Tokens live for minutes. Get a new one: run the job again, or exchange it earlier in the job.",
        )
    if begins is not None and moment < begins - LEEWAY:
        raise IdentityError(
            "oidc-token-not-yet-valid",
            f"the token holds only from {_iso(begins)} (`nbf`), now is {_iso(moment)}",
            hint="The clock of this machine is behind the issuer's: set it by NTP.",
        )


def _part(text: str, name: str) -> dict[str, Any]:
    try:
        found = bounded.loads(
            base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        )
        json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair is no text
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
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 1e11:
        raise _malformed(f"its `{name}` claim is not a time in seconds")
    return float(found)


def _malformed(detail: str) -> IdentityError:
    return IdentityError(
        "oidc-token-malformed", f"the token is not a JWT that AWS takes: {detail}", hint=_HINT_TEXT
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
