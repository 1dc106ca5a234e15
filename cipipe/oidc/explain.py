"""Why a trust policy denies a request: findings, each with expected, actual and the smallest fix.

Warnings on what the policy lets in besides (`lints`) come after the reasons for a denial.
"""

import difflib
import re
from collections.abc import Iterator, Sequence

from cipipe.oidc import conditions, subjects, unmerged
from cipipe.oidc.findings import Finding, first_difference, line, nearest, render
from cipipe.oidc.lints import lint
from cipipe.oidc.request import Request, issuer_key, visible
from cipipe.oidc.trust_policy import ConditionResult, Evaluation, StatementResult, undecided

__all__ = ["Finding", "explain", "first_difference", "render"]


def explain(evaluation: Evaluation, request: Request) -> tuple[Finding, ...]:
    """The findings on an evaluation. Where a request is denied, those on the statement that is
    nearest come first.
    """
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
    further = {
        s.index: s
        for s in evaluation.further_denies
        if s.index not in {deny.index for deny in denies}
    }
    yield from (_explicit_deny(deny, request) for deny in (*denies, *further.values()))
    if denies:
        return
    meant = [statement for statement in allows if statement.principal is not False]
    if not meant:
        yield _no_provider(allows, request)
    if not any(statement.applies is not False for statement in allows):
        for statement in sorted(meant, key=lambda s: (s.action is False, len(s.failing))):
            yield from _denied(statement, request)
    for action in evaluation.missing if meant else ():
        yield _missing_action(meant[0], action)


def _denied(statement: StatementResult, request: Request) -> Iterator[Finding]:
    if statement.action is False:
        assume = any(name.lower() == "sts:assumerole" for name in statement.actions)
        yield Finding(
            "oidc-action-is-assumerole" if assume else "oidc-action-mismatch",
            "error",
            statement.index,
            None,
            None,
            (request.action,),
            statement.actions,
            "the statement allows another action than the one that exchanges a token",
            f'"Action": "{request.action}"',
        )
    # A merge request's token fails both: its subject says more than that its ref is not protected.
    for condition in sorted(
        statement.failing, key=lambda failing: unmerged.tells(failing, request)
    ):
        name, message, fix = _cause(condition, request)
        yield Finding(
            name,
            "error",
            statement.index,
            condition.operator,
            condition.key,
            condition.expected,
            condition.actual,
            message,
            fix,
        )


def _cause(condition: ConditionResult, request: Request) -> tuple[str, str, str]:
    operator, key, expected = condition.operator, condition.key, condition.expected
    claim = key.lower().removeprefix(f"{request.issuer.lower()}:")
    mismatch = {"aud": "oidc-audience-mismatch", "sub": "oidc-subject-mismatch"}.get(
        claim, "oidc-claim-mismatch"
    )
    if condition.actual is None:
        return _absent(condition, request)
    actual = condition.actual[0]
    if refused := unmerged.refused(condition, request):
        return refused
    if conditions.base(operator).lower() == "null":
        return (
            mismatch,
            f"the condition wants {key} to be absent, and the token has it",
            line("Null", key, ("false",)),
        )
    if conditions.negated(operator):
        rest = [
            value for value in expected if conditions.holds(operator, [value], condition.actual)
        ]
        fix = line(operator, key, rest) if rest else f"no condition {operator} on {key}"
        return mismatch, f"the value of {key} is one that the condition excludes", fix
    pattern = next(
        (value for value in expected if set("*?") & set(value) and conditions.like(actual, value)),
        "",
    )
    if pattern and "equals" in operator.lower():
        like = re.sub("Equals(IgnoreCase)?", "Like", operator, flags=re.IGNORECASE)
        message = f"{operator} takes `*` and `?` literally; the pattern would match with {like}"
        return "oidc-wildcard-needs-stringlike", message, line(like, key, (pattern,))
    fix = line(_equal(operator), key, _amended(condition))
    if claim == "sub":
        return *subjects.cause(expected, actual, request.claims), fix
    if claim == "aud":
        return mismatch, "the token was asked for with another audience than the role expects", fix
    if any(conditions.like(actual.casefold(), value.casefold()) for value in expected):
        return (
            mismatch,
            "the values differ in upper and lower case only, which a condition tells apart",
            fix,
        )
    return mismatch, f"the token's {claim} is not the one that the role trusts", fix


def _absent(condition: ConditionResult, request: Request) -> tuple[str, str, str]:
    """Why the request lacks a key: it is another's, it is misspelt, IAM does not offer it, or the
    token has none.
    """
    key, operator = condition.key, condition.operator
    prefix, _, claim = key.rpartition(":")
    offered, subject = visible(request.issuer), f"{request.issuer}:sub"
    instead = line("StringEquals", subject, request.context.get(subject.lower(), ("…",)))
    if claim in offered and prefix.lower() == request.issuer.lower():
        message = f"AWS would see {claim}, but this token has none, and {operator} does not hold without it"
        return "oidc-claim-absent", message, instead
    if claim in offered:
        same = issuer_key(prefix).lower() == request.issuer.lower()
        what = (
            "keys have no scheme and no final slash"
            if same
            else f"it is a key of {prefix or 'no provider'}"
        )
        fix = line(operator, f"{request.issuer}:{claim}", condition.expected)
        return (
            "oidc-claim-not-visible",
            f"AWS sees no {key} for tokens of {request.issuer}: {what}",
            fix,
        )
    if claim in {unmerged.PROTECTED, unmerged.SOURCE} and prefix.lower() == request.issuer.lower():
        instead = unmerged.subject_with_protection(request, str(request.claims.get("sub")))
    near = difflib.get_close_matches(claim, offered, n=1, cutoff=0.75)
    if near and claim not in request.claims:
        fix = line(operator, f"{request.issuer}:{near[0]}", condition.expected)
        return "oidc-claim-not-visible", f"there is no {claim}; perhaps {near[0]} is meant", fix
    has = "the token has it, but" if claim in request.claims else "the token has none, and"
    message = f"{has} AWS offers only {', '.join(sorted(offered))} of {request.issuer}"
    return "oidc-claim-not-visible", message, instead


def _amended(condition: ConditionResult) -> tuple[str, ...]:
    """The values of a condition that lets the request in: in place of the only one, else of the one
    that it nearly is.
    """
    expected, found = condition.expected, condition.actual or ()
    every = condition.operator.lower().startswith("forallvalues:")
    actual = tuple(value.replace("${", "${$}{") for value in (found if every else found[:1]))
    if len(expected) <= 1 or _equal(condition.operator) != condition.operator:
        return actual
    near = nearest(expected, actual[0])
    kept = tuple(
        value for value in expected if value != near or near.casefold() != actual[0].casefold()
    )
    return (*kept, *(value for value in actual if value not in kept))


def _equal(operator: str) -> str:
    """An operator that compares sizes or times as the one of its family that asks for exactly this
    value.
    """
    return re.sub("(Less|Greater)Than(Equals)?", "Equals", operator, flags=re.IGNORECASE)


def _explicit_deny(statement: StatementResult, request: Request) -> Finding:
    first = statement.conditions[0] if statement.conditions else None
    about = {condition.key.lower(): condition for condition in statement.conditions}
    protected = about.get(f"{request.issuer}:{unmerged.PROTECTED}".lower())
    unprotected = protected is not None and [value.lower() for value in protected.actual or ()] == [
        "false"
    ]
    return Finding(
        "oidc-explicit-deny",
        "error",
        statement.index,
        None,
        first.key if first else None,
        first.expected if first else (),
        first.actual if first else None,
        "a Deny statement covers this request; no Allow can outweigh it",
        unmerged.protect(request)
        if unprotected
        else "narrow the conditions of that statement, or take it out",
    )


def _missing_action(statement: StatementResult, action: str) -> Finding:
    actions = (
        (*statement.actions, action)
        if statement.action
        else ("sts:AssumeRoleWithWebIdentity", action)
    )
    shown = ", ".join(f'"{name}"' for name in actions)
    return Finding(
        "oidc-tagsession-missing",
        "error",
        statement.index,
        None,
        None,
        (action,),
        statement.actions,
        f"the token carries what needs {action}, which the policy does not allow",
        f'"Action": [{shown}]',
    )


def _no_provider(allows: Sequence[StatementResult], request: Request) -> Finding:
    return Finding(
        "oidc-no-provider-for-issuer",
        "error",
        None,
        None,
        None,
        tuple(name for statement in allows for name in statement.principals),
        (request.provider,),
        "no statement trusts the provider that issued this token",
        f'"Principal": {{"Federated": "{request.provider}"}}',
    )


def _undecided(statement: StatementResult) -> Finding:
    what = ", ".join(undecided(statement))
    return Finding(
        "oidc-undecided",
        "warning",
        statement.index,
        None,
        None,
        (),
        None,
        f"whether this {statement.effect} applies cannot be told from the token alone: {what}",
        "try the exchange itself, or take that part out for the comparison",
    )
