"""Why a trust policy denies a request: findings, each with expected, actual and the smallest fix.

A finding of severity `error` is a reason for a denial, `warning` a policy that lets in too much.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from cipipe.oidc import conditions
from cipipe.oidc.request import Request
from cipipe.oidc.trust_policy import Condition, Evaluation, Statement


class Finding(msgspec.Struct, frozen=True):
    """One thing about a policy and a request. `statement` is its index, None where it is about the whole policy."""

    id: str
    severity: Literal["error", "warning"]
    statement: int | None
    operator: str | None
    key: str | None
    expected: tuple[str, ...]
    actual: tuple[str, ...] | None
    message: str
    fix: str


def explain(evaluation: Evaluation, request: Request) -> tuple[Finding, ...]:
    """The findings on an evaluation. Where a request is denied, those on statements that name its provider come first."""
    allows = [statement for statement in evaluation.statements if statement.effect == "Allow"]
    findings: list[Finding] = []
    if evaluation.verdict == "denied":
        denies = [s for s in evaluation.statements if s.effect == "Deny" and s.applies]
        findings += map(_explicit_deny, denies)
        meant = [statement for statement in allows if statement.principal is not False]
        for statement in meant if not denies else ():
            findings += _denied(statement, request)
        if not meant:
            findings.append(_no_provider(allows, request))
    for statement in allows:
        if statement.principal and not _mentions(statement, f"{request.issuer}:sub"):
            findings.append(_missing_subject(statement, request))
    return tuple(findings)


def render(findings: Iterable[Finding]) -> str:
    """The findings for people: expected above actual, with a pointer to the first character that differs."""
    return "\n\n".join("\n".join(_lines(finding)) for finding in findings)


def first_difference(expected: str, actual: str) -> int:
    """The index of the first character in which two strings differ: their common length, if one continues the other."""
    shorter = min(len(expected), len(actual))
    return next((i for i in range(shorter) if expected[i] != actual[i]), shorter)


def _denied(statement: Statement, request: Request) -> Iterator[Finding]:
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
    for condition in statement.failing:
        yield _failing(statement.index, condition, request)


def _failing(index: int, condition: Condition, request: Request) -> Finding:
    claim = condition.key.lower().removeprefix(f"{request.issuer.lower()}:")
    actual = condition.actual[0] if condition.actual else None
    name, message, fix = _cause(condition, claim, actual)
    return Finding(
        name, "error", index, condition.operator, condition.key, condition.expected, condition.actual, message, fix
    )


def _cause(condition: Condition, claim: str, actual: str | None) -> tuple[str, str, str]:
    line = f'"{condition.operator}": {{"{condition.key}": {json.dumps(actual)}}}'
    named = {"aud": "oidc-audience-mismatch", "sub": "oidc-subject-mismatch"}.get(claim, "oidc-claim-mismatch")
    if actual is None:
        return (
            "oidc-claim-absent",
            f"the request has no key {condition.key}, and {condition.operator} does not hold without it",
            f'take "{condition.key}" out of the condition; IAM sees `sub` and `aud` of every provider',
        )
    if conditions.negated(condition.operator):
        return (
            named,
            f"the value of {condition.key} is one that the condition excludes",
            "take that value out of the list",
        )
    if claim == "aud":
        return named, "the token was asked for with another audience than the role expects", line
    pattern = next(
        (value for value in condition.expected if set("*?") & set(value) and conditions.like(actual, value)), ""
    )
    if pattern and "equals" in condition.operator.lower():
        return (
            "oidc-wildcard-needs-stringlike",
            f"{condition.operator} takes `*` and `?` literally; the pattern would match with StringLike",
            f'"StringLike": {{"{condition.key}": {json.dumps(pattern)}}}',
        )
    if any(conditions.like(actual.casefold(), value.casefold()) for value in condition.expected):
        return "oidc-subject-case" if claim == "sub" else named, "the values differ in upper and lower case only", line
    return named, f"the token's {condition.key.rpartition(':')[2]} is not the one that the role trusts", line


def _explicit_deny(statement: Statement) -> Finding:
    return Finding(
        "oidc-explicit-deny",
        "error",
        statement.index,
        None,
        None,
        (),
        None,
        "a Deny statement covers this request; no Allow can outweigh it",
        "narrow the conditions of that statement, or take it out",
    )


def _no_provider(allows: Sequence[Statement], request: Request) -> Finding:
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


def _missing_subject(statement: Statement, request: Request) -> Finding:
    subject = request.context.get(f"{request.issuer}:sub".lower(), ("…",))[0]
    return Finding(
        "oidc-missing-subject",
        "warning",
        statement.index,
        None,
        f"{request.issuer}:sub",
        (),
        None,
        f"the statement does not look at the subject: every project on {request.issuer} may assume this role",
        f'"StringEquals": {{"{request.issuer}:sub": {json.dumps(subject)}}}',
    )


def _mentions(statement: Statement, key: str) -> bool:
    return any(condition.key.lower() == key.lower() for condition in statement.conditions)


def _lines(finding: Finding) -> Iterator[str]:
    place = "" if finding.statement is None else f" (statement {finding.statement})"
    yield f"{finding.id}{place}: {finding.message}"
    if finding.operator:
        yield f"  condition  {finding.operator} on {finding.key}"
    for expected in finding.expected:
        yield f"  expected   {expected}"
    if finding.actual is not None:
        for actual in finding.actual:
            yield f"  actual     {actual}"
        if finding.operator and len(finding.expected) == len(finding.actual) == 1:
            at = first_difference(finding.expected[0], finding.actual[0])
            yield "  " + " " * (11 + at) + f"^ the first difference, at character {at + 1}"
    elif finding.operator:
        yield "  actual     (absent)"
    yield f"  fix        {finding.fix}"
