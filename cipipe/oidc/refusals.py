"""What a refusal of STS means: which of the causes behind AWS's code it is,
and what to do next.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from cipipe.errors import CipipeError, IdentityError
from cipipe.oidc.claims import ALGORITHMS, TokenClaims
from cipipe.oidc.explain import Finding, explain, render
from cipipe.oidc.request import ROLE_ARN, provider_arn, request_for
from cipipe.oidc.session import SessionRequest
from cipipe.oidc.trust_policy import Decision, evaluate
from cipipe.tools.aws.errors import AwsError

KEYS_NOT_FETCHED = "Couldn't retrieve verification key"

_ALLOWED = (
    "The trust policy as it is now would let this token in. It may have changed a moment ago, or a "
    "policy of the organisation denies the call."
)


class ExchangeError(IdentityError):
    """STS refused a token."""

    def __init__(
        self,
        name: str,
        message: str,
        *,
        code: str,
        hint: str | None,
        where: str,
        findings: tuple[Finding, ...] = (),
    ) -> None:
        super().__init__(name, message, hint=hint, where=where)

        # AWS's own code.
        self.code = code

        # Why, if the trust policy could be read.
        self.findings = findings


class _Meaning(msgspec.Struct, frozen=True):
    """What AWS's code and text stand for."""

    id: str
    message: str
    hint: str


# Codes that have one cause each.
_BY_CODE = {
    "ExpiredTokenException": _Meaning(
        "oidc-token-expired",
        "the token has expired",
        "Tokens are valid for minutes. Run the job again for a new one.",
    ),
    "RegionDisabledException": _Meaning(
        "oidc-region-disabled",
        "STS is not active in this region",
        "Activate it in the account's IAM settings.",
    ),
}


def explained(
    error: AwsError,
    *,
    claims: TokenClaims | None,
    session: SessionRequest,
    policy: Mapping[str, Any] | None,
) -> ExchangeError:
    """The error that says what a refusal of STS means.

    `claims` are None if the token cannot be read, `policy` (the role's
    trust policy) if it is not known.
    """
    meaning = _meaning(error, claims, session.role_arn)
    message = f"{meaning.message}\nAWS says {error.code}: {error.text}"

    findings: tuple[Finding, ...] = ()
    if policy is not None and claims is not None:
        verdict, findings = _evaluated(policy, claims, session)
        explanation = render(finding for finding in findings if finding.severity == "error")
        if verdict == "allowed":
            explanation = f"{_ALLOWED}\n\n{explanation}".rstrip()
        if explanation:
            message += f"\n\n{explanation}"

    return ExchangeError(
        meaning.id,
        message,
        code=error.code,
        hint=meaning.hint,
        where=session.role_arn,
        findings=findings,
    )


def _meaning(error: AwsError, claims: TokenClaims | None, role_arn: str) -> _Meaning:
    issuer = _issuer(claims)
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]

    if error.code == "AccessDenied":
        subject = f" for the subject {claims.subject}" if claims else ""
        return _Meaning(
            "oidc-access-denied",
            "the role's trust policy does not let this token assume the role"
            f"{subject}, or there is no such role",
            "AWS does not say which. Compare the token's claims with the role's trust policy; "
            "`cipipe bootstrap` writes one.",
        )
    if error.code == "InvalidIdentityToken":
        return _invalid(error.text, claims, role_arn)
    if error.code == "IDPCommunicationError":
        return _Meaning(
            "oidc-keys-unreachable",
            f"AWS cannot reach {issuer}",
            "Is its discovery document public?",
        )
    if error.code == "IDPRejectedClaim":
        return _Meaning(
            "oidc-token-rejected",
            f"{issuer} rejected the token",
            "It may have been revoked; run the job again.",
        )

    # AWS spells the parameter either way, and has no code of its own for
    # it.
    if "durationseconds" in error.text.lower():
        return _Meaning(
            "oidc-duration",
            "the role does not allow such a long session",
            "Request a shorter one, or raise the role's maximum.",
        )
    if error.code == "ValidationError":
        return _Meaning(
            "oidc-request-invalid",
            "AWS does not accept the request",
            "See AWS's own message.",
        )
    return _Meaning(
        "oidc-exchange-failed",
        "AWS did not exchange the token",
        "If this continues, see the AWS health dashboard.",
    )


def _invalid(text: str, claims: TokenClaims | None, role_arn: str) -> _Meaning:
    """The causes of InvalidIdentityToken, which differ in AWS's text only."""
    issuer = _issuer(claims)
    if "OpenIDConnect provider" in text:
        match = ROLE_ARN.fullmatch(role_arn)
        account, partition = (match[2], match[1]) if match else ("", "aws")
        arn = provider_arn(issuer, account_id=account, partition=partition)
        return _Meaning(
            "oidc-no-provider-for-issuer",
            f"account {account} has no OIDC provider for {issuer}",
            f"Create {arn}; `cipipe bootstrap` does.",
        )
    if "audience" in text:
        actual = ", ".join(claims.audiences) if claims else "unknown"
        return _Meaning(
            "oidc-audience-mismatch",
            f"the OIDC provider in IAM does not list the token's audience; actual {actual}",
            "Add it to the provider's client ids, or request the token for one that it lists.",
        )
    if KEYS_NOT_FETCHED in text:
        return _Meaning(
            "oidc-keys-unreachable",
            f"AWS did not get the keys of {issuer}, or the token's key is not among them",
            "Its discovery document and keys have to be public and answer within five seconds.",
        )
    if claims is not None and not claims.signed:
        return _Meaning(
            "oidc-token-unsigned",
            "the token is not signed (`alg: none`)",
            "Use the token that the CI provider issues for this job, unchanged.",
        )
    if "not a valid JWT" in text:
        return _Meaning(
            "oidc-token-malformed",
            "the token is not a JWT that AWS accepts",
            "Is it passed completely, without quotes or line breaks, and signed with one of "
            f"{', '.join(ALGORITHMS)}?",
        )
    if "not yet valid" in text:
        return _Meaning(
            "oidc-token-not-yet-valid",
            "the token is not valid yet",
            "One of the clocks is wrong: set it by NTP.",
        )
    return _Meaning(
        "oidc-signature",
        f"the token was not signed by {issuer}",
        "It was changed on its way, or comes from another issuer than it says.",
    )


def _issuer(claims: TokenClaims | None) -> str:
    return claims.issuer if claims else "the token's issuer"


def _evaluated(
    policy: Mapping[str, Any], claims: TokenClaims, session: SessionRequest
) -> tuple[Decision, tuple[Finding, ...]]:
    match = ROLE_ARN.fullmatch(session.role_arn)
    if match is None:
        return "unknown", ()
    request = request_for(
        claims, account_id=match[2], partition=match[1], session_name=session.name
    )
    try:
        evaluation = evaluate(policy, request)
    except CipipeError:
        # The refusal is the error to report, not a policy that cannot be
        # evaluated here.
        return "unknown", ()
    return evaluation.verdict, explain(evaluation, request)
