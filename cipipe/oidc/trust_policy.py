"""A role's trust policy, evaluated against a web-identity request as IAM does.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
What this evaluator does not know (an operator, `NotPrincipal`, a key that AWS fills in itself) makes the verdict
`unknown` where it could matter; it never guesses.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from cipipe.errors import UsageError
from cipipe.oidc import conditions
from cipipe.oidc.request import Request

Verdict = Literal["allowed", "denied", "unknown"]

_SERVICE_KEYS = ("aws:", "sts:")
_VARIABLE = re.compile(r"\$\{([^${}*?]+)\}")


class Condition(msgspec.Struct, frozen=True):
    """One operator on one key. `actual` is None where the key is absent from the request; `holds` None if unknown."""

    operator: str
    key: str
    expected: tuple[str, ...]
    actual: tuple[str, ...] | None
    holds: bool | None


class Statement(msgspec.Struct, frozen=True):
    """How one statement meets the request: its parts and, from them, whether it `applies` (None if unknown).

    `principals` are the statement's federated principals. `conditions` are all of its conditions, `failing` those that
    do not hold. `unknown` says what could not be decided.
    """

    index: int
    sid: str | None
    effect: str
    principal: bool | None
    action: bool | None
    principals: tuple[str, ...]
    actions: tuple[str, ...]
    conditions: tuple[Condition, ...]
    unknown: tuple[str, ...] = ()

    @property
    def failing(self) -> tuple[Condition, ...]:
        return tuple(condition for condition in self.conditions if condition.holds is False)

    @property
    def applies(self) -> bool | None:
        parts = [self.principal, self.action, *(condition.holds for condition in self.conditions)]
        return False if False in parts else None if None in parts or self.unknown else True


class Evaluation(msgspec.Struct, frozen=True):
    """The verdict on a request, and how each statement came to it."""

    verdict: Verdict
    statements: tuple[Statement, ...]


def evaluate(policy: Mapping[str, Any], request: Request) -> Evaluation:
    """Decide a request: an explicit Deny wins, then an Allow; without either it is denied.

    Raises UsageError `oidc-policy-malformed` for what is not a policy document.
    """
    version = policy.get("Version", "2008-10-17")
    found = policy.get("Statement")
    entries = found if isinstance(found, list) else [found]
    if not all(isinstance(entry, Mapping) for entry in entries):
        raise _malformed("`Statement` is neither an object nor a list of objects")
    statements = tuple(_statement(index, entry, request, version) for index, entry in enumerate(entries))
    allow = [statement.applies for statement in statements if statement.effect == "Allow"]
    deny = [statement.applies for statement in statements if statement.effect == "Deny"]
    verdict: Verdict = "denied"
    if True not in deny:
        if True in allow:
            verdict = "unknown" if None in deny else "allowed"
        elif None in allow:
            verdict = "unknown"
    return Evaluation(verdict, statements)


def parse(text: str) -> dict[str, Any]:
    """A policy document from its JSON. Raises UsageError `oidc-policy-malformed`."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _malformed(f"it is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise _malformed("it is not a JSON object")
    return found


def _statement(index: int, entry: Mapping[str, Any], request: Request, version: str) -> Statement:
    effect = entry.get("Effect")
    if effect not in {"Allow", "Deny"}:
        raise _malformed(f"statement {index} has the effect {json.dumps(effect)}; it is `Allow` or `Deny`")
    unknown = [name for name in ("NotPrincipal", "NotAction", "Resource", "NotResource") if name in entry]
    principals, principal = _principal(entry.get("Principal"), request)
    actions = _strings(entry.get("Action"), f"statement {index}: Action")
    action = any(conditions.like(request.action.lower(), pattern.lower()) for pattern in actions)
    return Statement(
        index,
        entry.get("Sid"),
        effect,
        None if "NotPrincipal" in entry else principal,
        None if "NotAction" in entry else action,
        principals,
        actions,
        tuple(_conditions(index, entry.get("Condition"), request, version)),
        tuple(unknown),
    )


def _principal(found: Any, request: Request) -> tuple[tuple[str, ...], bool | None]:
    """The federated principals, and whether the request's provider is one of the principals.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
    """
    if found == "*":
        return ("*",), True
    if not isinstance(found, Mapping):
        return (), False
    federated = _strings(found.get("Federated"), "Principal")
    if request.provider in federated or "*" in _strings(found.get("AWS"), "Principal"):
        return federated, True
    return federated, None if any("*" in name for name in federated) else False


def _conditions(index: int, block: Any, request: Request, version: str) -> Iterator[Condition]:
    if block is None:
        return
    if not isinstance(block, Mapping) or not all(isinstance(keys, Mapping) for keys in block.values()):
        raise _malformed(f"`Condition` of statement {index} is not an object of objects")
    for operator, keys in block.items():
        for key, values in keys.items():
            expected = _strings(values, f"statement {index}: Condition.{operator}.{key}")
            actual = request.context.get(key.lower())
            unresolved: list[str] = []

            def expand(value: str, unresolved: list[str] = unresolved) -> str:
                return value if version != "2012-10-17" else _expanded(value, request, unresolved)

            holds = conditions.holds(operator, expected, actual, expand=expand)
            if unresolved or (actual is None and key.lower().startswith(_SERVICE_KEYS)):
                holds = None
            yield Condition(operator, key, expected, actual, holds)


def _expanded(value: str, request: Request, unresolved: list[str]) -> str:
    """Replace policy variables: `${key}` and `${key, 'default'}`, whose values stand for themselves, wildcards included.

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


def _strings(found: Any, where: str) -> tuple[str, ...]:
    """JSON values as IAM reads them: one or a list of them; numbers and booleans count as their text."""
    entries = [] if found is None else found if isinstance(found, list) else [found]
    if any(isinstance(entry, Mapping | list) or entry is None for entry in entries):
        raise _malformed(f"{where} is neither a string nor a list of strings")
    return tuple(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries)


def _malformed(detail: str) -> UsageError:
    return UsageError(
        "oidc-policy-malformed",
        f"this is not a trust policy: {detail}",
        hint="`aws iam get-role --role-name NAME --query Role.AssumeRolePolicyDocument` prints one.",
    )
