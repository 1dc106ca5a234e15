"""Why a trust policy denies a request: findings with expected, actual and
the smallest fix.

Warnings about what else the policy lets in (`lints`) come after the reasons
for a denial.
"""

import difflib
import re
from collections.abc import Iterator, Sequence

from cipipe.oidc import conditions, subjects, unmerged
from cipipe.oidc.findings import (
    Cause,
    Finding,
    about_condition,
    first_difference,
    line,
    nearest,
    render,
)
from cipipe.oidc.lints import lint
from cipipe.oidc.request import Request, issuer_key, visible
from cipipe.oidc.trust_policy import ConditionResult, Evaluation, StatementResult, undecided

__all__ = ["Finding", "explain", "first_difference", "render"]


def explain(evaluation: Evaluation, request: Request) -> tuple[Finding, ...]:
    """The findings on an evaluation. Of several statements the nearest one comes first."""
    allows = [statement for statement in evaluation.statements if statement.effect == "Allow"]
    findings: list[Finding] = []

    if evaluation.verdict == "denied":
        findings += _reasons(evaluation, allows, request)
    elif evaluation.verdict == "unknown":
        findings += map(_undecided, (s for s in evaluation.statements if s.applies is None))

    findings += unmerged.let_in(evaluation, request)
    for statement in allows:
        findings += lint(statement, request, evaluation.statements)
    return tuple(findings)


def _reasons(
    evaluation: Evaluation, allows: Sequence[StatementResult], request: Request
) -> Iterator[Finding]:
    denies = [s for s in evaluation.statements if s.effect == "Deny" and s.applies]
    reported = {deny.index for deny in denies}

    # A statement may deny several actions of the request; it is reported
    # once.
    further = {s.index: s for s in evaluation.further_denies if s.index not in reported}
    yield from (_explicit_deny(deny, request) for deny in (*denies, *further.values()))

    # While a Deny covers the exchange, nothing in an Allow makes a
    # difference.
    if denies:
        return

    candidates = [statement for statement in allows if statement.principal is not False]
    if not candidates:
        yield _no_provider(allows, request)
        return
    if not any(statement.applies is not False for statement in allows):
        for statement in sorted(candidates, key=_distance):
            yield from _denied(statement, request)
    for action in evaluation.missing:
        yield _missing_action(candidates[0], action)


def _distance(statement: StatementResult) -> tuple[bool, int]:
    """How far a statement is from allowing the request."""
    return statement.action is False, len(statement.failing)


def _denied(statement: StatementResult, request: Request) -> Iterator[Finding]:
    """Why one statement does not allow the request."""
    if statement.action is False:
        assume = any(name.lower() == "sts:assumerole" for name in statement.actions)
        yield Finding(
            id="oidc-action-is-assumerole" if assume else "oidc-action-mismatch",
            severity="error",
            statement=statement.index,
            expected=(request.action,),
            actual=statement.actions,
            message="the statement does not allow the action that exchanges a token",
            fix=f'"Action": "{request.action}"',
        )

    # A merge request's token fails on its subject and on the protection of
    # its ref. The subject says more, so it comes first.
    for condition in sorted(
        statement.failing, key=lambda failing: unmerged.distinguishes(failing, request)
    ):
        yield about_condition(statement, condition, _cause(condition, request), severity="error")


def _cause(condition: ConditionResult, request: Request) -> Cause:
    if condition.actual is None:
        return _absent(condition, request)
    if refused := unmerged.refused(condition, request):
        return refused

    operator = condition.operator
    key = condition.key
    claim = key.lower().removeprefix(f"{request.issuer.lower()}:")
    by_claim = {"aud": "oidc-audience-mismatch", "sub": "oidc-subject-mismatch"}
    mismatch = by_claim.get(claim, "oidc-claim-mismatch")

    if conditions.base(operator).lower() == "null":
        message = f"the condition requires {key} to be absent, but the token has it"
        return Cause(mismatch, message, line("Null", key, ("false",)))
    if conditions.negated(operator):
        message = f"the value of {key} is one that the condition excludes"
        return Cause(mismatch, message, _without_excluding(condition))
    if wildcard := _literal_wildcard(condition):
        return wildcard

    actual = condition.actual[0]
    fix = line(_equal(operator), key, _amended(condition))
    if claim == "sub":
        found = subjects.mismatch(condition.expected, actual, request.claims)
        return Cause(found.id, found.message, fix)
    if claim == "aud":
        message = "the token was requested for another audience than the one the role expects"
        return Cause(mismatch, message, fix)
    if any(conditions.like(actual.casefold(), value.casefold()) for value in condition.expected):
        message = "the values differ only in upper and lower case, which conditions distinguish"
        return Cause(mismatch, message, fix)
    return Cause(mismatch, f"the role does not trust this token's {claim}", fix)


def _without_excluding(condition: ConditionResult) -> str:
    """A negated condition without the values that exclude this token."""
    rest = [
        value
        for value in condition.expected
        if conditions.holds(condition.operator, [value], condition.actual)
    ]
    if rest:
        return line(condition.operator, condition.key, rest)
    return f"no condition {condition.operator} on {condition.key}"


def _literal_wildcard(condition: ConditionResult) -> Cause | None:
    """The cause where an `…Equals` has a pattern that would match with `…Like`."""
    operator = condition.operator
    actual = (condition.actual or ("",))[0]
    for value in condition.expected:
        pattern = "*" in value or "?" in value
        if pattern and "equals" in operator.lower() and conditions.like(actual, value):
            like = re.sub("Equals(IgnoreCase)?", "Like", operator, flags=re.IGNORECASE)
            message = (
                f"{operator} treats `*` and `?` as plain characters; with {like} the pattern "
                "would match"
            )
            fix = line(like, condition.key, (value,))
            return Cause("oidc-wildcard-needs-stringlike", message, fix)
    return None


def _absent(condition: ConditionResult, request: Request) -> Cause:
    """Why the request does not have a key: it belongs to another provider,
    is misspelt, IAM does not offer it, or the token has no such claim.
    """
    prefix, _, claim = condition.key.rpartition(":")
    offered = visible(request.issuer)
    of_issuer = prefix.lower() == request.issuer.lower()
    if claim in offered:
        return _absent_claim(condition, request) if of_issuer else _wrong_key(condition, request)

    near = difflib.get_close_matches(claim, offered, n=1, cutoff=0.75)
    if near and claim not in request.claims:
        message = f"AWS knows no {claim}; perhaps {near[0]} is meant"
        fix = line(condition.operator, f"{request.issuer}:{near[0]}", condition.expected)
        return Cause("oidc-claim-not-visible", message, fix)

    fix = _subject_line(request)
    if claim in {unmerged.PROTECTED, unmerged.SOURCE} and of_issuer:
        # A GitLab server: the condition was meant to keep merge requests
        # out, and so must the fix.
        fix = unmerged.subject_with_protection(request, str(request.claims.get("sub")))
    names = ", ".join(sorted(offered))
    has = "although the token has it" if claim in request.claims else "and the token has none"
    message = f"AWS does not see {claim}, {has}: AWS offers only {names} of {request.issuer}"
    return Cause("oidc-claim-not-visible", message, fix)


def _absent_claim(condition: ConditionResult, request: Request) -> Cause:
    claim = condition.key.rpartition(":")[2]
    message = (
        f"AWS would see {claim}, but this token has none, and {condition.operator} fails without it"
    )
    return Cause("oidc-claim-absent", message, _subject_line(request))


def _wrong_key(condition: ConditionResult, request: Request) -> Cause:
    """The cause where a claim is right and what precedes it in the key is not."""
    prefix, _, claim = condition.key.rpartition(":")
    if issuer_key(prefix).lower() == request.issuer.lower():
        why = "keys have no scheme and no final slash"
    else:
        why = f"it is a key of {prefix or 'no provider'}"
    message = f"AWS sees no {condition.key} for tokens of {request.issuer}: {why}"
    fix = line(condition.operator, f"{request.issuer}:{claim}", condition.expected)
    return Cause("oidc-claim-not-visible", message, fix)


def _subject_line(request: Request) -> str:
    subject = f"{request.issuer}:sub"
    return line("StringEquals", subject, request.context.get(subject.lower(), ("…",)))


def _amended(condition: ConditionResult) -> tuple[str, ...]:
    """The condition's values, changed so that they include the request's.

    The request's value replaces the only one; of several it replaces one
    that differs only in case, and otherwise is added.
    """
    found = condition.actual or ()
    every = condition.operator.lower().startswith("forallvalues:")
    wanted = found if every else found[:1]

    # The values of a token are literal, so `${` must not become a variable.
    actual = tuple(value.replace("${", "${$}{") for value in wanted)
    if len(condition.expected) <= 1 or _equal(condition.operator) != condition.operator:
        return actual

    near = nearest(condition.expected, actual[0])
    same = near.casefold() == actual[0].casefold()
    kept = tuple(value for value in condition.expected if not (same and value == near))
    return (*kept, *(value for value in actual if value not in kept))


def _equal(operator: str) -> str:
    """The operator of the same family that compares for equality: a token's
    number or date is trusted exactly.
    """
    return re.sub("(Less|Greater)Than(Equals)?", "Equals", operator, flags=re.IGNORECASE)


def _explicit_deny(statement: StatementResult, request: Request) -> Finding:
    by_key = {condition.key.lower(): condition for condition in statement.conditions}
    protected = by_key.get(f"{request.issuer}:{unmerged.PROTECTED}".lower())
    fix = "narrow the conditions of that statement, or remove it"
    values = [value.lower() for value in protected.actual or ()] if protected else []
    if values == ["false"]:
        # A Deny of refs that are not protected does what it should: the ref
        # has to change.
        fix = unmerged.protect(request)

    first = statement.conditions[0] if statement.conditions else None
    return Finding(
        id="oidc-explicit-deny",
        severity="error",
        statement=statement.index,
        key=first.key if first else None,
        expected=first.expected if first else (),
        actual=first.actual if first else None,
        message="a Deny statement covers this request, and no Allow can override it",
        fix=fix,
    )


def _missing_action(statement: StatementResult, action: str) -> Finding:
    actions = (*statement.actions, action)
    if not statement.action:
        actions = ("sts:AssumeRoleWithWebIdentity", action)
    shown = ", ".join(f'"{name}"' for name in actions)
    return Finding(
        id="oidc-tagsession-missing",
        severity="error",
        statement=statement.index,
        expected=(action,),
        actual=statement.actions,
        message=f"this token also needs {action}, which the policy does not allow",
        fix=f'"Action": [{shown}]',
    )


def _no_provider(allows: Sequence[StatementResult], request: Request) -> Finding:
    return Finding(
        id="oidc-no-provider-for-issuer",
        severity="error",
        expected=tuple(name for statement in allows for name in statement.principals),
        actual=(request.provider,),
        message="no statement trusts the provider that issued this token",
        fix=f'"Principal": {{"Federated": "{request.provider}"}}',
    )


def _undecided(statement: StatementResult) -> Finding:
    what = ", ".join(undecided(statement))
    return Finding(
        id="oidc-undecided",
        severity="warning",
        statement=statement.index,
        message=f"the token alone does not show whether this {statement.effect} applies: {what}",
        fix="try the exchange itself, or remove that part for the comparison",
    )
