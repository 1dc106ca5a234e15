"""A role's trust policy, evaluated against a web-identity request as IAM does.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html What this
evaluator does not know (an operator, `NotPrincipal`, a key that AWS fills in itself) makes the
verdict `unknown` where it could matter; it never guesses.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from cipipe.oidc import conditions, policy
from cipipe.oidc.policy import parse
from cipipe.oidc.request import Request

__all__ = ["ConditionResult", "Decision", "Evaluation", "StatementResult", "evaluate", "parse"]

Decision = Literal["allowed", "denied", "unknown"]

_VARIABLE = re.compile(r"\$\{([^${}*?]+)\}")


class ConditionResult(msgspec.Struct, frozen=True):
    """One operator on one key. `actual` is None where the key is absent from the request; `holds`
    None if unknown.
    """

    operator: str
    key: str
    expected: tuple[str, ...]
    actual: tuple[str, ...] | None
    holds: bool | None


class StatementResult(msgspec.Struct, frozen=True):
    """How one statement meets the request: its parts and, from them, whether it `applies` (None if
    unknown).

    `principals` are the statement's federated principals. `conditions` are all of its conditions,
    `failing` those that do not hold. `unknown` says what could not be decided.
    """

    index: int
    sid: str | None
    effect: str
    principal: bool | None
    action: bool | None
    principals: tuple[str, ...]
    actions: tuple[str, ...]
    conditions: tuple[ConditionResult, ...]
    unknown: tuple[str, ...] = ()

    @property
    def failing(self) -> tuple[ConditionResult, ...]:
        return tuple(condition for condition in self.conditions if condition.holds is False)

    @property
    def undecided(self) -> tuple[ConditionResult, ...]:
        return tuple(condition for condition in self.conditions if condition.holds is None)

    @property
    def applies(self) -> bool | None:
        parts = [self.principal, self.action, *(condition.holds for condition in self.conditions)]
        return False if False in parts else None if None in parts or self.unknown else True


class Evaluation(msgspec.Struct, frozen=True):
    """The verdict on a request, and how each statement came to it.

    `missing` are actions that the token needs beside the exchange (`sts:TagSession`), and that
    nothing allows; `further_denies` the Deny statements that apply to such an action.
    """

    verdict: Decision
    statements: tuple[StatementResult, ...]
    missing: tuple[str, ...] = ()
    further_denies: tuple[StatementResult, ...] = ()


def evaluate(document: Mapping[str, Any], request: Request) -> Evaluation:
    """Decide a request: an explicit Deny wins, then an Allow; without either it is denied.

    Raises UsageError `oidc-policy-malformed` for what is not a policy document.
    """
    loaded = policy.load(document)
    statements = _statements(loaded, request, request.action)
    further = {action: _statements(loaded, request, action) for action in request.further}
    verdicts = {action: _verdict(found) for action, found in further.items()}
    denies = {
        action: tuple(s for s in found if s.effect == "Deny" and s.applies)
        for action, found in further.items()
    }
    every = {_verdict(statements), *verdicts.values()}
    verdict: Decision = (
        "denied" if "denied" in every else "unknown" if "unknown" in every else "allowed"
    )
    missing = tuple(
        action for action, found in verdicts.items() if found == "denied" and not denies[action]
    )
    return Evaluation(
        verdict, statements, missing, tuple(itertools.chain.from_iterable(denies.values()))
    )


def _verdict(statements: tuple[StatementResult, ...]) -> Decision:
    allow = [statement.applies for statement in statements if statement.effect == "Allow"]
    deny = [statement.applies for statement in statements if statement.effect == "Deny"]
    if True in deny or (True not in allow and None not in allow):
        return "denied"
    return "allowed" if True in allow and None not in deny else "unknown"


def _statements(
    document: policy.Document, request: Request, action: str
) -> tuple[StatementResult, ...]:
    return tuple(
        _statement(index, entry, request, action, document.version)
        for index, entry in enumerate(document.entries)
    )


def _statement(
    index: int, entry: policy.PolicyStatement, request: Request, action: str, version: str
) -> StatementResult:
    matches = any(conditions.like(action.lower(), pattern.lower()) for pattern in entry.actions)
    return StatementResult(
        index,
        entry.sid,
        entry.effect,
        None if "NotPrincipal" in entry.beyond else _principal(entry.principals, request),
        None if "NotAction" in entry.beyond else matches,
        ("*",) if "*" in entry.principals else entry.principals.get("Federated", ()),
        entry.actions,
        tuple(_condition(clause, request, version) for clause in entry.clauses),
        entry.beyond,
    )


def _principal(found: Mapping[str, tuple[str, ...]], request: Request) -> bool | None:
    """Whether the request's provider is one of the principals.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
    """
    federated = found.get("Federated", ())
    if "*" in found or request.provider in federated or "*" in found.get("AWS", ()):
        return True
    return None if any("*" in name for name in federated) else False


def _condition(clause: policy.PolicyCondition, request: Request, version: str) -> ConditionResult:
    operator, key, expected = clause.operator, clause.key, clause.values
    actual = request.context.get(key.lower()) or None
    unresolved: list[str] = []

    def expand(value: str) -> str:
        # Before 2012 a variable and an escape are plain text; the wildcards in it still are
        # wildcards.
        return (
            value.replace("${", "${$}{")
            if version == policy.VERSIONS[0]
            else _expanded(value, request, unresolved)
        )

    holds = conditions.holds(operator, expected, actual, expand=expand)
    if unresolved or request.undecided(key):
        holds = None
    return ConditionResult(operator, key, expected, actual, holds)


def _expanded(value: str, request: Request, unresolved: list[str]) -> str:
    """Replace policy variables: `${key}` and `${key, 'default'}`, whose values stand for
    themselves, wildcards included.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
    """

    def value_of(match: re.Match[str]) -> str:
        key, comma, default = (part.strip() for part in match[1].partition(","))
        found = request.context.get(key.lower())
        if found is not None and len(found) == 1:
            text = found[0]
        elif comma and found is None:
            text = default.strip("'")
        else:
            unresolved.append(key)
            return match[0]
        return re.sub(r"[*?$]", lambda special: "${" + special[0] + "}", text)

    return _VARIABLE.sub(value_of, value)


def undecided(statement: StatementResult) -> Iterator[str]:
    """What of a statement could not be decided, for people."""
    yield from (f"`{name}`" for name in statement.unknown)
    if statement.principal is None and not statement.unknown:
        yield "a wildcard in `Principal`"
    yield from (f"{condition.operator} on {condition.key}" for condition in statement.undecided)
