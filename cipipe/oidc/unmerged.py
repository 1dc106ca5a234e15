"""Merge requests and trust policies: whether a policy distinguishes their
tokens from those of a branch, and how it could.

A merge request from a fork may have a source branch called `main`. GitLab
then gives its job the subject of the project's own `main`. The claims that
do differ are the provider's `DEPLOY_CLAIMS`.
"""

from collections.abc import Iterator, Sequence

from cipipe import ci
from cipipe.oidc import conditions
from cipipe.oidc.findings import Cause, Finding, about_condition, line
from cipipe.oidc.request import Request, visible
from cipipe.oidc.trust_policy import ConditionResult, Evaluation, StatementResult

PROTECTED = "ref_protected"
SOURCE = "pipeline_source"

# GitLab's project setting that chooses the parts of a subject.
COMPONENTS = "ci_id_token_sub_claim_components"

_CHILD = "parent_pipeline"
_ONLY_READS = "deploy after the merge; let merge requests assume a role that only reads"


def let_in(evaluation: Evaluation, request: Request) -> Iterator[Finding]:
    """The finding about a merge request's token that a policy accepts."""
    if evaluation.verdict != "allowed" or not ci.unmerged(request.claims):
        return
    applying = [
        statement
        for statement in evaluation.statements
        if statement.effect == "Allow" and statement.applies
    ]
    yield Finding(
        id="oidc-merge-request-allowed",
        severity="warning",
        statement=applying[0].index,
        message="the token belongs to a merge or pull request, whose code is not merged: only a "
        "role that only reads should accept it",
        fix=_guard_for_deployments(request),
    )


def indistinct(
    statement: StatementResult,
    subjects: Sequence[ConditionResult],
    request: Request,
    every: Sequence[StatementResult] = (),
) -> Iterator[Finding]:
    """The finding about a statement that mistakes a fork's merge request
    for a branch.

    `subjects` are the statement's conditions on the subject, `every` all
    statements of the policy.
    """
    if guarded(statement, request.issuer) or any(_denies(other, request.issuer) for other in every):
        return
    for condition in subjects:
        values = [value for value in condition.expected if _of_branch(value)]
        if values:
            yield about_condition(
                statement, condition, _indistinct(values[0], request), severity="warning"
            )
            return


def guarded(statement: StatementResult, issuer: str) -> bool:
    """Whether the statement accepts protected refs only, or only pipeline
    sources that neither a merge request nor its child pipeline has.
    """
    return any(_guards(condition, issuer) for condition in statement.conditions)


def distinguishes(condition: ConditionResult, request: Request) -> bool:
    """Whether a condition is on a claim that differs between merge requests and branches."""
    return _claim(condition, request.issuer) in {PROTECTED, SOURCE}


def refused(condition: ConditionResult, request: Request) -> Cause | None:
    """Why a condition fails, if it is because of a merge request or a ref
    that is not protected.

    The fix is never to trust such tokens.
    """
    claim = _claim(condition, request.issuer)
    if claim not in {PROTECTED, SOURCE} or condition.actual is None:
        return None

    if ci.unmerged(request.claims):
        message = (
            "the job belongs to a merge request, whose code is not merged: a role that deploys "
            "should not trust it"
        )
        return Cause("oidc-claim-mismatch", message, _ONLY_READS)

    if claim == SOURCE and tuple(condition.actual) == (_CHILD,):
        return _child_pipeline(condition, request)

    unprotected = [value.lower() for value in condition.actual] == ["false"]
    if claim == PROTECTED and unprotected:
        # A condition that holds for `false` failed for another reason.
        if conditions.holds(condition.operator, condition.expected, ["false"]):
            return None
        message = "the ref is not protected, and the role trusts protected refs only"
        return Cause("oidc-claim-mismatch", message, protect(request))
    return None


def protect(request: Request) -> str:
    """What to do about a ref that is not protected."""
    facts = ci.token_facts(request.claims)
    what = "branch or tag"
    if facts and facts.ref:
        what = f"{facts.ref_type or 'ref'} {facts.ref}"
    return f"protect the {what} in the project's settings, under Repository"


def subject_with_protection(request: Request, subject: str) -> str:
    """How to put the protection into the subject: AWS sees no other claim of a GitLab server."""
    value = f"{subject}:environment_protected:true"
    shown = line("StringEquals", f"{request.issuer}:sub", (value,))
    return f"{shown}, after adding environment_protected to the project's {COMPONENTS}"


def _child_pipeline(condition: ConditionResult, request: Request) -> Cause:
    message = (
        "the pipeline_source of a child pipeline is parent_pipeline, whatever started its parent: "
        "it may have been a merge request"
    )
    facts = ci.token_facts(request.claims)
    if facts is not None and facts.protected is False:
        return Cause("oidc-claim-mismatch", message, protect(request))

    # Trusting child pipelines is safe only together with protected refs.
    values = line(condition.operator, condition.key, (*condition.expected, _CHILD))
    return Cause("oidc-claim-mismatch", message, f"{values}, together with {_guard(request)}")


def _indistinct(value: str, request: Request) -> Cause:
    message = (
        "a merge request from a fork whose branch has this name gets the same subject, and the "
        "policy does not distinguish the two"
    )
    if PROTECTED in visible(request.issuer):
        fix = f"add {_guard(request)}"
    else:
        message += f"; AWS sees no claim of {request.issuer} that could"
        fix = subject_with_protection(request, value)
    return Cause("oidc-merge-request-indistinct", message, fix)


def _of_branch(value: str) -> bool:
    """Whether a subject, or a pattern for one, is a branch's, and a merge request could have it."""
    for provider in ci.PROVIDERS.values():
        found = provider.subject(value)
        if found is not None:
            return found.kind == "branch" and PROTECTED in provider.DEPLOY_CLAIMS
    return False


def _guards(condition: ConditionResult, issuer: str) -> bool:
    """Whether a condition refuses every token of a merge request."""
    claim = _claim(condition, issuer)
    if claim not in {PROTECTED, SOURCE}:
        return False
    operator = condition.operator
    if conditions.base(operator).lower() == "null":
        return False

    # An operator that also holds for an absent claim guards nothing, except
    # that a negated one is fine at gitlab.com, whose tokens always have
    # both claims.
    always_present = claim in visible(issuer)
    if conditions.tolerant(operator) and not (conditions.negated(operator) and always_present):
        return False

    unsafe: tuple[str, ...] = ("false",)
    if claim == SOURCE:
        unsafe = ("merge_request_event", "external_pull_request_event", _CHILD)
    return all(conditions.holds(operator, condition.expected, [value]) is False for value in unsafe)


def _denies(statement: StatementResult, issuer: str) -> bool:
    """Whether a statement denies every token of a ref that is not protected."""
    if statement.effect != "Deny" or statement.principal is False or not statement.conditions:
        return False
    return all(
        _claim(condition, issuer) == PROTECTED
        and conditions.holds(condition.operator, condition.expected, ["false"]) is True
        for condition in statement.conditions
    )


def _claim(condition: ConditionResult, issuer: str) -> str | None:
    """The claim that a condition is on; None if it is not one of the issuer's."""
    prefix, _, claim = condition.key.lower().rpartition(":")
    return claim if prefix == issuer.lower() else None


def _guard(request: Request) -> str:
    return line("StringEquals", f"{request.issuer}:{PROTECTED}", ("true",))


def _guard_for_deployments(request: Request) -> str:
    if PROTECTED in visible(request.issuer):
        return f"in a role that deploys, add {_guard(request)}"
    return (
        "in a role that deploys, trust the subjects of branches, tags or protected environments "
        "only"
    )
