"""Merge requests and trust policies: whether a policy tells their tokens from those of a branch,
and how it would.

A merge request from a fork may have a source branch called `main`; GitLab then gives its job the
subject of the project's own `main`. Which claims differ stands with the provider (`DEPLOY_CLAIMS`).
"""

from collections.abc import Iterator, Sequence

from cipipe import ci
from cipipe.oidc import conditions
from cipipe.oidc.findings import Finding, line
from cipipe.oidc.request import Request, visible
from cipipe.oidc.trust_policy import ConditionResult, Evaluation, StatementResult

PROTECTED, SOURCE = "ref_protected", "pipeline_source"
COMPONENTS = "ci_id_token_sub_claim_components"
_CHILD = "parent_pipeline"
_ONLY_READS = "deploy after the merge; let merge requests assume a role that only reads"


def let_in(evaluation: Evaluation, request: Request) -> Iterator[Finding]:
    """The finding on a merge request's token that a policy lets in."""
    if evaluation.verdict != "allowed" or not ci.unmerged(request.claims):
        return
    applying = [
        statement
        for statement in evaluation.statements
        if statement.effect == "Allow" and statement.applies
    ]
    yield Finding(
        "oidc-merge-request-allowed",
        "warning",
        applying[0].index,
        None,
        None,
        (),
        None,
        "the token is a merge or pull request's, whose code is not merged: only a role that reads should let it in",
        _fix(request),
    )


def indistinct(
    statement: StatementResult,
    subjects: Sequence[ConditionResult],
    request: Request,
    every: Sequence[StatementResult] = (),
) -> Iterator[Finding]:
    """The finding on a statement that takes the token of a fork's merge request for that of a
    branch.
    """
    if guarded(statement, request.issuer) or any(_denies(other, request.issuer) for other in every):
        return
    for condition in subjects:
        values = [value for value in condition.expected if _of_branch(value)]
        if values:
            yield _indistinct(statement, condition, values[0], request)
            return


def guarded(statement: StatementResult, issuer: str) -> bool:
    """Whether the statement takes protected refs only, or sources that neither a merge request nor
    its child has.
    """
    return any(_guards(condition, issuer) for condition in statement.conditions)


def tells(condition: ConditionResult, request: Request) -> bool:
    """Whether a condition is on a claim by which merge requests are told apart."""
    return _claim(condition, request.issuer) in {PROTECTED, SOURCE}


def refused(condition: ConditionResult, request: Request) -> tuple[str, str, str] | None:
    """Id, message and fix where a condition fails because the ref is not protected, or the token a
    merge request's.

    The fix is never to trust such tokens.
    """
    claim = _claim(condition, request.issuer)
    unprotected = claim == PROTECTED and [value.lower() for value in condition.actual or ()] == [
        "false"
    ]
    if (
        claim in {PROTECTED, SOURCE}
        and ci.unmerged(request.claims)
        and condition.actual is not None
    ):
        message = "the job belongs to a merge request, whose code is not merged: a role that deploys should not trust it"
        return "oidc-claim-mismatch", message, _ONLY_READS
    if claim == SOURCE and tuple(condition.actual or ()) == (_CHILD,):
        message = "a child pipeline says parent_pipeline whatever started its parent, a merge request included"
        facts = ci.token_facts(request.claims)
        if facts is not None and facts.protected is False:
            return "oidc-claim-mismatch", message, protect(request)
        values = line(condition.operator, condition.key, (*condition.expected, _CHILD))
        guard = line("StringEquals", f"{request.issuer}:{PROTECTED}", ("true",))
        return "oidc-claim-mismatch", message, f"{values}, with {guard} beside it"
    if unprotected and not conditions.holds(condition.operator, condition.expected, ["false"]):
        message = "the ref is not protected, and the role trusts protected refs only"
        return "oidc-claim-mismatch", message, protect(request)
    return None


def protect(request: Request) -> str:
    """What to do about a ref that is not protected."""
    facts = ci.token_facts(request.claims)
    what = f"{facts.ref_type or 'ref'} {facts.ref}" if facts and facts.ref else "branch or tag"
    return f"protect the {what} in the project's settings, under Repository"


def subject_with_protection(request: Request, subject: str) -> str:
    """How to have the subject tell, where AWS sees no other claim of a GitLab server."""
    shown = line(
        "StringEquals", f"{request.issuer}:sub", (f"{subject}:environment_protected:true",)
    )
    return f"{shown}, once environment_protected is among the project's {COMPONENTS}"


def _indistinct(
    statement: StatementResult, condition: ConditionResult, value: str, request: Request
) -> Finding:
    if PROTECTED in visible(request.issuer):
        what, fix = (
            "",
            line("StringEquals", f"{request.issuer}:{PROTECTED}", ("true",)) + " beside it",
        )
    else:
        what = f", and AWS sees no claim of {request.issuer} that would"
        fix = subject_with_protection(request, value)
    return Finding(
        "oidc-merge-request-indistinct",
        "warning",
        statement.index,
        condition.operator,
        condition.key,
        condition.expected,
        condition.actual,
        f"a merge request from a fork whose branch has this name gets the same subject; the policy does not tell them "
        f"apart{what}",
        fix,
    )


def _of_branch(value: str) -> bool:
    """Whether a subject, or a pattern for one, is that of a branch of a provider whose merge
    requests have it too.
    """
    for provider in ci.PROVIDERS.values():
        found = provider.subject(value)
        if found is not None:
            return found.kind == "branch" and PROTECTED in provider.DEPLOY_CLAIMS
    return False


def _guards(condition: ConditionResult, issuer: str) -> bool:
    claim, operator = _claim(condition, issuer), condition.operator
    if claim not in {PROTECTED, SOURCE}:
        return False
    present = conditions.negated(operator) and claim in visible(
        issuer
    )  # gitlab.com's tokens always have both
    if conditions.tolerant(operator) and not present:
        return False
    refused_values: tuple[str, ...] = ("false",)
    if claim == SOURCE:
        refused_values = ("merge_request_event", "external_pull_request_event", _CHILD)
    if conditions.base(operator).lower() == "null":
        return False
    return all(
        conditions.holds(operator, condition.expected, [value]) is False for value in refused_values
    )


def _denies(statement: StatementResult, issuer: str) -> bool:
    """Whether a statement denies every token of a ref that is not protected."""
    return (
        statement.effect == "Deny"
        and statement.principal is not False
        and bool(statement.conditions)
        and all(
            _claim(condition, issuer) == PROTECTED
            and conditions.holds(condition.operator, condition.expected, ["false"]) is True
            for condition in statement.conditions
        )
    )


def _claim(condition: ConditionResult, issuer: str) -> str | None:
    prefix, _, claim = condition.key.lower().rpartition(":")
    return claim if prefix == issuer.lower() else None


def _fix(request: Request) -> str:
    if PROTECTED in visible(request.issuer):
        guard = line("StringEquals", f"{request.issuer}:{PROTECTED}", ("true",))
        return f"in a role that deploys: {guard}"
    return "in a role that deploys, trust the subjects of branches, tags or protected environments only"
