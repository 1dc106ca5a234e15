"""Identity policies, a permissions boundary and session policies, evaluated
as IAM does it. Pure.

What cannot be decided is an error: it is never allowed silently.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cipipe.oidc import conditions
from cipipe.oidc.trust_policy import expanded

# Condition keys that the sandbox sets whenever AWS would. If a request has
# none of such a name, AWS's has none either.
_SET = (
    "aws:principalaccount",
    "aws:principalarn",
    "aws:requesttag/",
    "aws:securetransport",
    "aws:tagkeys",
    "aws:viaawsservice",
    "ec2:createaction",
    "ecs:cluster",
    "iam:awsservicename",
    "iam:passedtoservice",
    "iam:permissionsboundary",
    "kms:requestalias",
    "kms:viaservice",
    "s3:if-match",
    "s3:if-none-match",
    "s3:prefix",
)
_RESOURCE_TAG = "aws:resourcetag/"

_VARIABLE = re.compile(r"\$\{[^}]*\}")


@dataclass(frozen=True, kw_only=True)
class Need:
    """One permission that a request needs."""

    # Such as `ecs:CreateCluster`.
    action: str

    # An ARN, or `*` for an action that supports no resources.
    resource: str

    # Condition key in lower case → values.
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    # Whether `context` has the resource's tags, if there are any.
    tags_known: bool = False


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """The policies of one caller, as JSON."""

    identity: tuple[str, ...]
    boundary: str | None = None
    session: tuple[str, ...] = ()


class UndecidableError(Exception):
    """A policy or a request that this evaluation does not know; the text says what."""


def refusal(permissions: Permissions, need: Need) -> str | None:
    """Why a request is refused, in AWS's words; None if it is allowed.

    Raises UndecidableError.
    """
    layers = [("identity-based policy", permissions.identity)]
    if permissions.boundary is not None:
        layers.append(("permissions boundary", (permissions.boundary,)))
    if permissions.session:
        layers.append(("session policy", permissions.session))

    found = [(name, _effects(documents, need)) for name, documents in layers]
    for name, effects in found:
        if "Deny" in effects:
            article = "an" if name[0] in "aeiou" else "a"
            return f"with an explicit deny in {article} {name}"
    for name, effects in found:
        if "Allow" not in effects:
            return f"because no {name} allows the {need.action} action"
    return None


def allows_everything(permissions: Permissions) -> bool:
    """Whether every request is allowed, whatever it needs: as with
    AdministratorAccess, and nothing that limits it.
    """
    layers = [permissions.identity]
    if permissions.boundary is not None:
        layers.append((permissions.boundary,))
    if permissions.session:
        layers.append(permissions.session)
    statements = [[one for found in layer for one in _statements(found)] for layer in layers]
    return all(any(map(_is_administrators, layer)) for layer in statements) and not any(
        one["Effect"] == "Deny" for layer in statements for one in layer
    )


def _is_administrators(statement: Mapping[str, Any]) -> bool:
    return (
        statement["Effect"] == "Allow"
        and "*" in _listed(statement.get("Action", ""))
        and "*" in _listed(statement.get("Resource", ""))
        and not statement.get("Condition")
    )


def _effects(documents: Iterable[str], need: Need) -> set[str]:
    """The effects of all statements that apply."""
    return {
        statement["Effect"]
        for document in documents
        for statement in _statements(document)
        if _applies(statement, need)
    }


@functools.lru_cache(maxsize=256)
def _statements(document: str) -> tuple[Mapping[str, Any], ...]:
    loaded = json.loads(document)
    if loaded.get("Version") != "2012-10-17":
        raise UndecidableError("a policy without the version 2012-10-17")
    found = loaded["Statement"]
    return tuple(found) if isinstance(found, list) else (found,)


def _applies(statement: Mapping[str, Any], need: Need) -> bool:
    if not (_covers_action(statement, need) and _covers_resource(statement, need)):
        return False
    tests = [
        (operator, key, _listed(values))
        for operator, block in statement.get("Condition", {}).items()
        for key, values in block.items()
    ]
    # One that fails is enough, whatever the undecided ones would say.
    results = {_holds(operator, key, values, need) for operator, key, values in tests}
    if False in results:
        return False
    unknown = [f"{operator} on {key}" for operator, key, _ in tests if not _known(key, need)]
    if None in results:
        raise UndecidableError(f"{', '.join(unknown) or 'the conditions'} for {need.action}")
    return True


def _covers_action(statement: Mapping[str, Any], need: Need) -> bool:
    negated = "NotAction" in statement
    patterns = _listed(statement["NotAction" if negated else "Action"])
    action = need.action.lower()
    return any(conditions.like(action, pattern.lower()) for pattern in patterns) is not negated


def _covers_resource(statement: Mapping[str, Any], need: Need) -> bool:
    negated = "NotResource" in statement
    patterns = _listed(statement["NotResource" if negated else "Resource"])
    whole = [_completed(pattern) for pattern in patterns]
    found = "*" in patterns or bool(
        conditions.holds("ArnLike", whole, (need.resource,), expand=_expander(need))
    )
    return found is not negated


def _completed(pattern: str) -> str:
    """An ARN with all of its six parts: AWS adds a `*` for each one that is missing.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html
    """
    return pattern + ":*" * (5 - _VARIABLE.sub("", pattern).count(":"))


def _holds(operator: str, key: str, values: tuple[str, ...], need: Need) -> bool | None:
    if not _known(key, need):
        return None
    actual = need.context.get(key.lower())
    return conditions.holds(operator, values, actual, expand=_expander(need))


def _known(key: str, need: Need) -> bool:
    lower = key.lower()
    if lower in need.context or lower.startswith(_SET):
        return True
    return need.tags_known and lower.startswith(_RESOURCE_TAG)


def _expander(need: Need) -> Any:
    def expand(value: str) -> str:
        unresolved: list[str] = []
        found = expanded(value, need.context, unresolved)
        if unresolved:
            raise UndecidableError(f"the policy variable {unresolved[0]}")
        return found

    return expand


def _listed(found: Any) -> tuple[str, ...]:
    entries = found if isinstance(found, list) else [found]
    return tuple(one if isinstance(one, str) else json.dumps(one) for one in entries)
