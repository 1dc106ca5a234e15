"""A role's trust policy, evaluated for a web-identity request as IAM does
it.

What this evaluator does not know (an operator, `NotPrincipal`, a key that only AWS can fill in)
makes the verdict `unknown` where it could matter. It never guesses.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from cipipe.oidc import conditions, policy
from cipipe.oidc.policy import parse
from cipipe.oidc.request import Request

__all__ = [
    "ConditionResult",
    "Decision",
    "Evaluation",
    "StatementResult",
    "evaluate",
    "expanded",
    "parse",
]

Decision = Literal["allowed", "denied", "unknown"]

_VARIABLE = re.compile(r"\$\{([^${}*?]+)\}")


class ConditionResult(msgspec.Struct, frozen=True, kw_only=True):
    """One operator on one key of a statement, and whether it holds for the request."""

    operator: str
    key: str

    # The policy's values.
    expected: tuple[str, ...]

    # The request's values; None if the request does not have the key.
    actual: tuple[str, ...] | None

    # None if that cannot be decided.
    holds: bool | None


class StatementResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one statement relates to the request."""

    # Its place in the policy, from 0.
    index: int
    sid: str | None

    # `Allow` or `Deny`.
    effect: str

    # Whether the request's provider and action are among the statement's;
    # None if undecided.
    principal: bool | None
    action: bool | None

    # The federated principals only; `("*",)` for everybody.
    principals: tuple[str, ...]
    actions: tuple[str, ...]
    conditions: tuple[ConditionResult, ...]

    # Names of elements that this evaluator does not decide, such as
    # `NotPrincipal`.
    unknown: tuple[str, ...] = ()

    @property
    def failing(self) -> tuple[ConditionResult, ...]:
        return tuple(condition for condition in self.conditions if condition.holds is False)

    @property
    def undecided(self) -> tuple[ConditionResult, ...]:
        return tuple(condition for condition in self.conditions if condition.holds is None)

    @property
    def applies(self) -> bool | None:
        """Whether the statement covers the request; None if that cannot be decided."""
        parts = [self.principal, self.action, *(condition.holds for condition in self.conditions)]

        # One part that fails is enough, whatever the undecided parts would
        # say.
        if False in parts:
            return False
        if None in parts or self.unknown:
            return None
        return True


class Evaluation(msgspec.Struct, frozen=True):
    """The verdict on a request, with the result of each statement."""

    verdict: Decision
    statements: tuple[StatementResult, ...]

    # Actions that the token needs besides the exchange (`sts:TagSession`)
    # and nothing allows.
    missing: tuple[str, ...] = ()

    # The Deny statements that cover such an action.
    further_denies: tuple[StatementResult, ...] = ()


def evaluate(document: Mapping[str, Any], request: Request) -> Evaluation:
    """Decide a request: an explicit Deny wins, then an Allow; without
    either it is denied.

    Raises UsageError `oidc-policy-malformed` if the document is not a
    policy.
    """
    loaded = policy.load(document)
    statements = _statements(loaded, request, request.action)
    further = {action: _statements(loaded, request, action) for action in request.further}

    verdicts = {action: _verdict(found) for action, found in further.items()}
    denies = {action: tuple(_applying_denies(found)) for action, found in further.items()}
    missing = [
        action for action, found in verdicts.items() if found == "denied" and not denies[action]
    ]
    return Evaluation(
        verdict=_combined({_verdict(statements), *verdicts.values()}),
        statements=statements,
        missing=tuple(missing),
        further_denies=tuple(itertools.chain.from_iterable(denies.values())),
    )


def undecided(statement: StatementResult) -> Iterator[str]:
    """The parts of a statement that could not be decided, in words."""
    yield from (f"`{name}`" for name in statement.unknown)
    if statement.principal is None and not statement.unknown:
        yield "a wildcard in `Principal`"
    yield from (f"{condition.operator} on {condition.key}" for condition in statement.undecided)


def _applying_denies(statements: Iterable[StatementResult]) -> Iterator[StatementResult]:
    for statement in statements:
        if statement.effect == "Deny" and statement.applies:
            yield statement


def _combined(verdicts: set[Decision]) -> Decision:
    """The verdict on several actions that are all needed."""
    if "denied" in verdicts:
        return "denied"
    return "unknown" if "unknown" in verdicts else "allowed"


def _verdict(statements: tuple[StatementResult, ...]) -> Decision:
    allow = {statement.applies for statement in statements if statement.effect == "Allow"}
    deny = {statement.applies for statement in statements if statement.effect == "Deny"}

    # Where no Allow can apply, an undecided Deny makes no difference.
    if True in deny or not allow & {True, None}:
        return "denied"
    return "allowed" if True in allow and None not in deny else "unknown"


def _statements(
    document: policy.Document, request: Request, action: str
) -> tuple[StatementResult, ...]:
    found = []
    for index, written in enumerate(document.statements):
        results = [
            _condition(condition, request, document.version) for condition in written.conditions
        ]
        result = StatementResult(
            index=index,
            sid=written.sid,
            effect=written.effect,
            principal=_principal(written, request),
            action=_action(written, action),
            principals=_federated(written),
            actions=written.actions,
            conditions=tuple(results),
            unknown=written.undecided,
        )
        found.append(result)
    return tuple(found)


def _principal(statement: policy.PolicyStatement, request: Request) -> bool | None:
    """Whether the request's provider is one of the principals.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
    """
    if "NotPrincipal" in statement.undecided:
        return None
    found = statement.principals
    federated = found.get("Federated", ())
    if "*" in found or request.provider in federated or "*" in found.get("AWS", ()):
        return True

    # IAM does not accept a wildcard within a name; what it would match is
    # not known.
    return None if any("*" in name for name in federated) else False


def _action(statement: policy.PolicyStatement, action: str) -> bool | None:
    if "NotAction" in statement.undecided:
        return None
    return any(conditions.like(action.lower(), pattern.lower()) for pattern in statement.actions)


def _federated(statement: policy.PolicyStatement) -> tuple[str, ...]:
    if "*" in statement.principals:
        return ("*",)
    return statement.principals.get("Federated", ())


def _condition(
    condition: policy.PolicyCondition, request: Request, version: str
) -> ConditionResult:
    operator = condition.operator
    actual = request.context.get(condition.key.lower()) or None
    unresolved: list[str] = []

    def expand(value: str) -> str:
        # Before version 2012 a variable and an escape are plain text. The
        # wildcards in them are still wildcards.
        if version == policy.VERSIONS[0]:
            return value.replace("${", "${$}{")
        return expanded(value, request.context, unresolved)

    holds = conditions.holds(operator, condition.values, actual, expand=expand)
    if unresolved or request.undecided(condition.key):
        holds = None
    return ConditionResult(
        operator=operator,
        key=condition.key,
        expected=condition.values,
        actual=actual,
        holds=holds,
    )


def expanded(value: str, context: Mapping[str, tuple[str, ...]], unresolved: list[str]) -> str:
    """Replace policy variables: `${key}` and `${key, 'default'}`.

    Wildcards in a variable's value are literal. Variables that the context has no single value for
    are added to `unresolved`.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
    """

    def value_of(match: re.Match[str]) -> str:
        key, comma, default = (part.strip() for part in match[1].partition(","))
        found = context.get(key.lower())
        if found is not None and len(found) == 1:
            text = found[0]
        elif comma and found is None:
            text = default.strip("'")
        else:
            unresolved.append(key)
            return match[0]
        return re.sub(r"[*?$]", lambda special: "${" + special[0] + "}", text)

    return _VARIABLE.sub(value_of, value)
