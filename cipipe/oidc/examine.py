"""A token compared with a role's trust policy: the verdict and why. Nothing
here calls AWS.

What STS refuses before it looks at the policy (a token that has expired, an
account without a provider for the issuer) counts as a denial and is
reported first.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from cipipe.errors import CipipeError, IdentityError, UsageError
from cipipe.oidc import claims as jwt
from cipipe.oidc.claims import TokenClaims
from cipipe.oidc.explain import explain
from cipipe.oidc.findings import Finding
from cipipe.oidc.policy import load
from cipipe.oidc.request import ROLE_ARN, Request, issuer_key, request_for
from cipipe.oidc.trust_policy import Decision, evaluate
from cipipe.partitions import ANY_PARTITION

# Groups: partition, account, issuer without its scheme.
PROVIDER_ARN = re.compile(rf"arn:{ANY_PARTITION}:iam::(\d{{12}}):oidc-provider/(\S+)")


class Explanation(msgspec.Struct, frozen=True):
    """The answer of `cipipe oidc explain`."""

    verdict: Decision
    findings: tuple[Finding, ...]


def examine(
    policy: Mapping[str, Any], request: Request, problems: Iterable[Finding] = ()
) -> Explanation:
    """Evaluate a policy for a request and explain the verdict.

    `problems` are what STS would refuse, or warn about, before it evaluates
    the policy. Raises UsageError `oidc-policy-malformed`.
    """
    before = tuple(problems)
    evaluation = evaluate(policy, request)
    findings = (*before, *explain(evaluation, request))

    refused = any(finding.severity == "error" for finding in before)
    return Explanation("denied" if refused else evaluation.verdict, findings)


def request_of(
    claims: TokenClaims, policy: Mapping[str, Any], *, provider: str | None, role: str | None
) -> tuple[Request, tuple[Finding, ...]]:
    """The request that a token makes, and a finding if `provider` is not
    the one STS would use.

    The account is that of the role or of the provider. Without either it is
    the account of a provider that the policy trusts, as if the policy were
    right. Raises UsageError `usage`.
    """
    trusted = _matched(PROVIDER_ARN, provider, "--provider-arn")
    assumed = _matched(ROLE_ARN, role, "--role-arn")

    if not claims.issuer and trusted is not None:
        claims = TokenClaims(claims.header, {**claims.payload, "iss": f"https://{trusted[3]}"})
    if not claims.issuer:
        raise UsageError(
            "oidc-claims-unreadable",
            "the claims have no `iss`, or it is not a string",
            hint="Add it, or name the provider: --provider-arn ARN.",
        )

    account = assumed or trusted or _named(policy, issuer_key(claims.issuer))
    partition, number = (account[1], account[2]) if account else ("aws", "ACCOUNT")
    request = request_for(claims, account_id=number, partition=partition)
    if provider is None or provider == request.provider:
        return request, ()

    elsewhere = Finding(
        id="oidc-no-provider-for-issuer",
        severity="error",
        expected=(provider,),
        actual=(request.provider,),
        message="STS looks for the issuer's own provider in the role's account, and this is "
        "another one",
        fix=f"create {request.provider}, or use a token of {trusted[3] if trusted else provider}",
    )
    return request, (elsewhere,)


def token_problems(claims: TokenClaims, now: datetime, *, live: bool) -> tuple[Finding, ...]:
    """What STS would refuse about a token at the moment `now`.

    Claims from a file (`live=False`) need a subject only: what else is
    missing was left out.
    """
    try:
        if live:
            jwt.check_signed(claims)
        jwt.check_form(claims, needed=jwt.REQUIRED_CLAIMS if live else ("sub",))
    except IdentityError as error:
        return (problem(error),)

    try:
        jwt.check_times(claims, now=now, needed=live)
    except IdentityError as error:
        found = problem(error)
        if error.id == "oidc-token-expired":
            valid = _iso(claims.payload["exp"] - 1)
            fix = f"get a new token; to check this one as of when it was valid: --at {valid}"
            found = msgspec.structs.replace(found, fix=fix)
        elif error.id == "oidc-token-not-yet-valid":
            valid = _iso(claims.payload["nbf"])
            fix = f"set this machine's clock by NTP; to check as of when it is valid: --at {valid}"
            found = msgspec.structs.replace(found, fix=fix)
        return (found,)
    return ()


def problem(error: CipipeError) -> Finding:
    """An error about the token as a finding."""
    return Finding(id=error.id, severity="error", message=error.message, fix=error.hint or "")


def without_token(error: CipipeError) -> Explanation:
    """The explanation if there is no token to compare."""
    return Explanation("denied", (problem(error),))


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _matched(pattern: re.Pattern[str], text: str | None, option: str) -> re.Match[str] | None:
    """The match of an option's value; None if the option is not used. Raises UsageError."""
    if text is None:
        return None
    match = pattern.fullmatch(text)
    if match is None:
        example = "role/NAME" if pattern is ROLE_ARN else "oidc-provider/ISSUER"
        raise UsageError(
            "usage",
            f"{option} does not accept {text!r}, which is not such an ARN",
            hint=f"It looks like arn:aws:iam::111111111111:{example}.",
            where=option,
        )
    return match


def _named(policy: Mapping[str, Any], issuer: str) -> re.Match[str] | None:
    """The issuer's provider that the policy trusts, in any account; else any provider in it."""
    names = [
        name
        for statement in load(policy).statements
        for name in statement.principals.get("Federated", ())
    ]
    found = [match for name in names if (match := PROVIDER_ARN.fullmatch(name))]
    fitting = (match for match in found if match[3].lower() == issuer.lower())
    return next(fitting, found[0] if found else None)
