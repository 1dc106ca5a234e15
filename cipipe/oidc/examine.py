"""A token and a role's trust policy side by side: the verdict, and why. Nothing here asks AWS.

What STS refuses before it looks at the policy (a token that has expired, an account without the
issuer's provider) counts as a denial, and is reported first.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from cipipe.errors import CipipeError, IdentityError, UsageError
from cipipe.model import ANY_PARTITION
from cipipe.oidc import claims as jwt
from cipipe.oidc.claims import TokenClaims
from cipipe.oidc.explain import explain
from cipipe.oidc.findings import Finding
from cipipe.oidc.policy import load
from cipipe.oidc.request import ROLE_ARN, Request, issuer_key, request_for
from cipipe.oidc.trust_policy import Decision, evaluate

PROVIDER_ARN = re.compile(rf"arn:{ANY_PARTITION}:iam::(\d{{12}}):oidc-provider/(\S+)")
"""Groups: partition, account, issuer without its scheme."""


class Explanation(msgspec.Struct, frozen=True):
    """What `cipipe oidc explain` answers."""

    verdict: Decision
    findings: tuple[Finding, ...]


def examine(
    policy: Mapping[str, Any], request: Request, problems: Iterable[Finding] = ()
) -> Explanation:
    """Evaluate a policy for a request, and say why. `problems` are what STS would refuse before, or
    warn of.

    Raises UsageError `oidc-policy-malformed`.
    """
    before = tuple(problems)
    evaluation = evaluate(policy, request)
    refused = any(finding.severity == "error" for finding in before)
    return Explanation(
        "denied" if refused else evaluation.verdict, (*before, *explain(evaluation, request))
    )


def request_of(
    claims: TokenClaims, policy: Mapping[str, Any], *, provider: str | None, role: str | None
) -> tuple[Request, tuple[Finding, ...]]:
    """The request that a token makes, and whether its account knows the issuer.

    The account is that of the provider or of the role; without both it is the account of a provider
    in the policy, as it would be in a policy that fits. Raises UsageError `usage`.
    """
    trusted, assumed = (
        _matched(PROVIDER_ARN, provider, "--provider-arn"),
        _matched(ROLE_ARN, role, "--role-arn"),
    )
    if not claims.issuer and trusted is not None:
        claims = TokenClaims(claims.header, {**claims.payload, "iss": f"https://{trusted[3]}"})
    if not claims.issuer:
        raise UsageError(
            "oidc-claims-unreadable",
            "the claims have no `iss` that is a text",
            hint="Add it, or name the provider: --provider-arn ARN.",
        )
    account = assumed or trusted or _named(policy, issuer_key(claims.issuer))
    partition, number = (account[1], account[2]) if account else ("aws", "ACCOUNT")
    request = request_for(claims, account_id=number, partition=partition)
    if provider is None or provider == request.provider:
        return request, ()
    elsewhere = Finding(
        "oidc-no-provider-for-issuer",
        "error",
        None,
        None,
        None,
        (provider,),
        (request.provider,),
        "STS looks for the issuer's own provider in the role's account, and this is another one",
        f"create {request.provider}, or take a token of {trusted[3] if trusted else provider}",
    )
    return request, (elsewhere,)


def token_problems(claims: TokenClaims, now: datetime, *, live: bool) -> tuple[Finding, ...]:
    """What STS would refuse in a token at the moment `now`.

    Claims that were kept (`live=False`) may be without what has been left out: all but the subject.
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
            fix = f"get a new token; to judge this one as of when it held: --at {_iso(claims.payload['exp'] - 1)}"
            found = msgspec.structs.replace(found, fix=fix)
        elif error.id == "oidc-token-not-yet-valid":
            begins = _iso(claims.payload["nbf"])
            fix = f"set this machine's clock by NTP; to judge the token as of when it holds: --at {begins}"
            found = msgspec.structs.replace(found, fix=fix)
        return (found,)
    return ()


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def problem(error: CipipeError) -> Finding:
    """An error about the token as a finding."""
    return Finding(
        error.id,
        "error",
        None,
        None,
        None,
        (),
        None,
        error.message,
        error.hint or "",
    )


def without_token(error: CipipeError) -> Explanation:
    """The explanation where there is no token that could be compared."""
    return Explanation("denied", (problem(error),))


def _matched(pattern: re.Pattern[str], text: str | None, option: str) -> re.Match[str] | None:
    match = pattern.fullmatch(text) if text is not None else None
    if text is not None and match is None:
        example = "role/NAME" if pattern is ROLE_ARN else "oidc-provider/ISSUER"
        raise UsageError(
            "usage",
            f"{text!r} is not an ARN that {option} takes",
            hint=f"It looks like arn:aws:iam::111111111111:{example}.",
            where=option,
        )
    return match


def _named(policy: Mapping[str, Any], issuer: str) -> re.Match[str] | None:
    """The provider of this issuer that the policy trusts, whatever its account; else any, whose
    account it will be.
    """
    names = (
        name for entry in load(policy).entries for name in entry.principals.get("Federated", ())
    )
    found = [match for name in names if (match := PROVIDER_ARN.fullmatch(name))]
    fitting = (match for match in found if match[3].lower() == issuer.lower())
    return next(fitting, found[0] if found else None)
