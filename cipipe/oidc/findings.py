"""A finding about a trust policy, and how it is printed: expected above
actual, with a pointer to the first character that differs.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from cipipe.oidc.trust_policy import ConditionResult, StatementResult
from cipipe.terminal import Style

Severity = Literal["error", "warning"]

# Every line below a finding's first one starts with a label of this width.
_INDENT = 13


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to know about a policy and a request."""

    # An id with a section in docs/errors.md.
    id: str

    # `error`: a reason for the denial. `warning`: the policy allows too
    # much, or cannot be decided.
    severity: Severity

    # The statement's index in the policy; None if the finding is about the
    # whole policy.
    statement: int | None = None

    # The condition that it is about; None if it is about none, or about a
    # missing one.
    operator: str | None = None
    key: str | None = None

    # The policy's values, then the request's. `actual` is None where the
    # request has no such key.
    expected: tuple[str, ...] = ()
    actual: tuple[str, ...] | None = None

    # One sentence, without a full stop.
    message: str

    # What to change: where possible, the very line to put into the policy.
    fix: str


class Cause(msgspec.Struct, frozen=True):
    """Why a condition failed: the parts of a finding that the condition itself does not contain."""

    id: str
    message: str
    fix: str


def about_condition(
    statement: StatementResult, condition: ConditionResult, cause: Cause, *, severity: Severity
) -> Finding:
    """The finding about one condition of a statement."""
    return Finding(
        id=cause.id,
        severity=severity,
        statement=statement.index,
        operator=condition.operator,
        key=condition.key,
        expected=condition.expected,
        actual=condition.actual,
        message=cause.message,
        fix=cause.fix,
    )


def line(operator: str, key: str, values: Sequence[str]) -> str:
    """A condition as it is written in a policy."""
    shown = json.dumps(values[0] if len(values) == 1 else list(values), ensure_ascii=False)
    return f'"{operator}": {{"{key}": {shown}}}'


def first_difference(expected: str, actual: str) -> int:
    """The index of the first character that differs; the common length if one is a prefix."""
    shorter = min(len(expected), len(actual))
    return next((i for i in range(shorter) if expected[i] != actual[i]), shorter)


def nearest(expected: Sequence[str], actual: str) -> str:
    """The value that has the longest prefix in common with `actual`."""
    return max(expected, key=lambda value: first_difference(value, actual), default="")


def render(findings: Iterable[Finding], style: Style = lambda word, _: word) -> str:
    """The findings as text for people."""
    return "\n\n".join("\n".join(_lines(finding, style)) for finding in findings)


def _lines(finding: Finding, style: Style) -> Iterator[str]:
    where = "" if finding.statement is None else f" (statement {finding.statement})"
    colour = "red" if finding.severity == "error" else "yellow"
    yield f"{style(finding.id, colour)}{where}: {finding.message}"

    if finding.operator:
        yield f"  condition  {finding.operator} on {finding.key}"

    # The nearest value comes last, right above the actual one, so that the
    # pointer fits both.
    actual = finding.actual[0] if finding.actual else ""
    last = nearest(finding.expected, actual) if finding.actual else ""
    for expected in sorted(finding.expected, key=lambda value: value == last):
        yield f"  expected   {expected}"

    for value in finding.actual or ():
        yield f"  actual     {value}"
    if _comparable(finding):
        at = first_difference(last, actual)
        pointer = style(f"^ the first difference, at character {at + 1}", colour)
        yield " " * (_INDENT + at) + pointer
    if finding.actual is None and finding.operator and finding.severity == "error":
        yield "  actual     (absent)"

    yield f"  fix        {style(finding.fix, 'bold')}"


def _comparable(finding: Finding) -> bool:
    """Whether there is one actual value that should have been one of the expected ones."""
    failed = finding.severity == "error" and finding.operator is not None
    return failed and bool(finding.expected) and len(finding.actual or ()) == 1
