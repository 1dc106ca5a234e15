"""A finding on a trust policy, and how it looks: expected above actual, with a pointer to what
differs first.

A finding of severity `error` is a reason for a denial, `warning` a policy that lets in too much or
cannot be decided.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from cipipe.terminal import Style


class Finding(msgspec.Struct, frozen=True):
    """One thing about a policy and a request. `statement` is its index, None where it is about the
    whole policy.
    """

    id: str
    severity: Literal["error", "warning"]
    statement: int | None
    operator: str | None
    key: str | None
    expected: tuple[str, ...]
    actual: tuple[str, ...] | None
    message: str
    fix: str


def line(operator: str, key: str, values: Sequence[str]) -> str:
    """A condition as it stands in a policy."""
    shown = json.dumps(values[0] if len(values) == 1 else list(values), ensure_ascii=False)
    return f'"{operator}": {{"{key}": {shown}}}'


def first_difference(expected: str, actual: str) -> int:
    """The index of the first character in which two strings differ: their common length, if one
    continues the other.
    """
    shorter = min(len(expected), len(actual))
    return next((i for i in range(shorter) if expected[i] != actual[i]), shorter)


def nearest(expected: Sequence[str], actual: str) -> str:
    """Of several values the one that agrees with `actual` the longest, from its beginning."""
    return max(expected, key=lambda value: first_difference(value, actual), default="")


def render(findings: Iterable[Finding], style: Style = lambda word, _: word) -> str:
    """The findings for people."""
    return "\n\n".join("\n".join(_lines(finding, style)) for finding in findings)


def _lines(finding: Finding, style: Style) -> Iterator[str]:
    place = "" if finding.statement is None else f" (statement {finding.statement})"
    colour = "red" if finding.severity == "error" else "yellow"
    yield f"{style(finding.id, colour)}{place}: {finding.message}"
    if finding.operator:
        yield f"  condition  {finding.operator} on {finding.key}"
    actual = finding.actual[0] if finding.actual else ""
    last = nearest(finding.expected, actual) if finding.actual else ""
    for expected in sorted(finding.expected, key=lambda value: value == last):
        yield f"  expected   {expected}"
    if finding.actual is not None:
        for value in finding.actual:
            yield f"  actual     {value}"
        if (
            finding.severity == "error"
            and finding.operator
            and finding.expected
            and len(finding.actual) == 1
        ):
            at = first_difference(last, actual)
            yield (
                "  "
                + " " * (11 + at)
                + style(f"^ the first difference, at character {at + 1}", colour)
            )
    elif finding.operator and finding.severity == "error":
        yield "  actual     (absent)"
    yield f"  fix        {style(finding.fix, 'bold')}"
