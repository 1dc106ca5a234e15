"""What a refusal of STS means: AWS's code and text, told apart, with what to do next.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html#API_AssumeRoleWithWebIdentity_Errors
"""

from collections.abc import Mapping
from typing import Any

from cipipe.errors import CipipeError, IdentityError
from cipipe.oidc.claims import ALGORITHMS, TokenClaims
from cipipe.oidc.explain import Finding, explain, render
from cipipe.oidc.request import ROLE_ARN, provider_arn, request_for
from cipipe.oidc.trust_policy import Decision, evaluate
from cipipe.tools.aws.errors import AwsError

KEYS_NOT_FETCHED = "Couldn't retrieve verification key"

_ALLOWED = (
    "The trust policy as it is now would let this token in. It may have changed a moment ago, or a policy of the "
    "organisation denies the call."
)


class ExchangeError(IdentityError):
    """STS refused a token. `code` is AWS's own; `findings` say why, where the trust policy could be
    read.
    """

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
        self.code = code
        self.findings = findings


def explained(
    error: AwsError,
    claims: TokenClaims | None,
    role_arn: str,
    session_name: str,
    policy: Mapping[str, Any] | None,
) -> ExchangeError:
    """The error that says what STS's refusal means. `policy` is the role's trust policy, if it is
    known.
    """
    issuer = claims.issuer if claims else "the token's issuer"
    said = f"AWS says {error.code}: {error.text}"
    name, what, hint = _meaning(error, claims, issuer, role_arn)
    findings: tuple[Finding, ...] = ()
    explanation = ""
    if policy is not None and claims is not None:
        verdict, findings = _evaluated(policy, claims, role_arn, session_name)
        explanation = render(finding for finding in findings if finding.severity == "error")
        if verdict == "allowed":
            explanation = f"{_ALLOWED}\n\n{explanation}".rstrip()
    message = f"{what}\n{said}" + (f"\n\n{explanation}" if explanation else "")
    return ExchangeError(
        name, message, code=error.code, hint=hint, where=role_arn, findings=findings
    )


def _meaning(
    error: AwsError, claims: TokenClaims | None, issuer: str, role_arn: str
) -> tuple[str, str, str]:
    text = error.text
    if error.code == "AccessDenied":
        subject = f" for the subject {claims.subject}" if claims else ""
        return (
            "oidc-access-denied",
            f"the role's trust policy does not let this token assume the role{subject}, or there is no such role",
            "AWS does not say which. Compare the token's claims with the role's trust policy; `cipipe bootstrap` writes one.",
        )
    if error.code == "ExpiredTokenException":
        return (
            "oidc-token-expired",
            "the token has expired",
            "Tokens live for minutes. Run the job again for a new one.",
        )
    if error.code == "InvalidIdentityToken":
        return _invalid(text, claims, issuer, role_arn)
    if error.code == "IDPCommunicationError":
        return (
            "oidc-keys-unreachable",
            f"AWS does not reach {issuer}",
            "Is its discovery document public?",
        )
    if error.code == "IDPRejectedClaim":
        return (
            "oidc-token-rejected",
            f"{issuer} rejected the token",
            "It may have been revoked; run the job again.",
        )
    if error.code == "RegionDisabledException":
        return (
            "oidc-region-disabled",
            "STS is not active in this region",
            "Activate it in the account's IAM settings.",
        )
    if "DurationSeconds" in text or "durationSeconds" in text:
        return (
            "oidc-duration",
            "the role does not allow so long a session",
            "Ask for less, or raise the role's maximum.",
        )
    if error.code == "ValidationError":
        return (
            "oidc-request-invalid",
            "AWS does not take the request as it is",
            "See what AWS says of it.",
        )
    return (
        "oidc-exchange-failed",
        "AWS did not exchange the token",
        "If it lasts, see the AWS health dashboard.",
    )


def _invalid(
    text: str, claims: TokenClaims | None, issuer: str, role_arn: str
) -> tuple[str, str, str]:
    if "OpenIDConnect provider" in text:
        match = ROLE_ARN.fullmatch(role_arn)
        account, partition = (match[2], match[1]) if match else ("", "aws")
        return (
            "oidc-no-provider-for-issuer",
            f"account {account} has no OIDC provider for {issuer}",
            f"Create {provider_arn(issuer, account_id=account, partition=partition)}; `cipipe bootstrap` does.",
        )
    if "audience" in text:
        actual = ", ".join(claims.audiences) if claims else "unknown"
        return (
            "oidc-audience-mismatch",
            f"the OIDC provider in IAM does not list the token's audience; actual {actual}",
            "Add it to the provider's client ids, or ask for the token with one that is there.",
        )
    if KEYS_NOT_FETCHED in text:
        return (
            "oidc-keys-unreachable",
            f"AWS did not get the keys of {issuer}, or they do not hold the token's key",
            "Its discovery document and keys have to be public and answer within five seconds.",
        )
    if claims is not None and not claims.signed:
        return (
            "oidc-token-unsigned",
            "the token is not signed (`alg: none`)",
            "Use the token that the CI provider issues for this job, unchanged.",
        )
    if "not a valid JWT" in text:
        return (
            "oidc-token-malformed",
            "the token is not a JWT that AWS takes",
            f"Is it passed whole, without quotes or line breaks, and signed with one of {', '.join(ALGORITHMS)}?",
        )
    if "not yet valid" in text:
        return (
            "oidc-token-not-yet-valid",
            "the token does not hold yet",
            "Whose clock is wrong: set it by NTP.",
        )
    return (
        "oidc-signature",
        f"the token's signature is not one of {issuer}",
        "The token was changed on its way, or comes from another issuer than it says.",
    )


def _evaluated(
    policy: Mapping[str, Any], claims: TokenClaims, role_arn: str, session_name: str
) -> tuple[Decision, tuple[Finding, ...]]:
    match = ROLE_ARN.fullmatch(role_arn)
    if match is None:
        return "unknown", ()
    request = request_for(
        claims, account_id=match[2], partition=match[1], session_name=session_name
    )
    try:
        evaluation = evaluate(policy, request)
    except CipipeError:
        return "unknown", ()
    return evaluation.verdict, explain(evaluation, request)
