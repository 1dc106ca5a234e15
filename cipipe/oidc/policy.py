"""A policy document as it is written: from JSON to statements.

What AWS would not accept is refused, with its path in the document.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from cipipe import bounded
from cipipe.errors import UsageError

# A policy without `Version` has the first one. Policy variables work in the
# second one only.
VERSIONS = ("2008-10-17", "2012-10-17")

# AWS accepts trust policies of 2,048 characters, and of 4,096 where the
# quota was raised.
_LONGEST = 16 * bounded.KIB

_DOCUMENT = ("Version", "Id", "Statement")
_STATEMENT = (
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
)
_PRINCIPALS = ("AWS", "Federated", "Service", "CanonicalUser")

# Elements that change what a statement covers and that the evaluator does
# not decide.
_UNDECIDED = ("NotPrincipal", "NotAction", "Resource", "NotResource")


class PolicyCondition(msgspec.Struct, frozen=True):
    """One operator on one key, with its values."""

    operator: str
    key: str
    values: tuple[str, ...]


class PolicyStatement(msgspec.Struct, frozen=True, kw_only=True):
    """One statement as it is written."""

    sid: str | None

    # `Allow` or `Deny`.
    effect: str

    # Kind of principal → names; `{"*": ()}` for everybody. Also those of
    # `NotPrincipal`.
    principals: Mapping[str, tuple[str, ...]]

    # Also those of `NotAction`.
    actions: tuple[str, ...]
    conditions: tuple[PolicyCondition, ...]

    # The elements of `_UNDECIDED` that the statement has.
    undecided: tuple[str, ...]


class Document(msgspec.Struct, frozen=True):
    """A whole policy."""

    version: str
    statements: tuple[PolicyStatement, ...]


def parse(text: str) -> dict[str, Any]:
    """A policy document from JSON.

    The output of `aws iam get-role` and of `cipipe oidc trust-policy` is
    accepted as well: the policy is taken out of it. Raises UsageError
    `oidc-policy-malformed`.
    """
    try:
        found = bounded.loads(text, object_pairs_hook=_unique)
        compact = json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise malformed(f"it is not JSON: {error.msg}", where) from None
    except UnicodeEncodeError:
        raise malformed("it contains half of a surrogate pair, which is not text", None) from None
    except ValueError as error:
        raise malformed(str(error), None) from None

    if len(compact) > _LONGEST:
        size = _LONGEST // bounded.KIB
        raise malformed(f"it is larger than {size} KiB, not counting whitespace", None)

    if isinstance(found, dict) and isinstance(found.get("Role"), dict):
        found = found["Role"].get("AssumeRolePolicyDocument")
    elif isinstance(found, dict) and "schema" in found and "policy" in found:
        found = found["policy"]
    if not isinstance(found, dict):
        raise malformed("it is not a JSON object", None)
    return found


def load(policy: Mapping[str, Any]) -> Document:
    """The statements of a policy document.

    Raises UsageError `oidc-policy-malformed`, with the path in `where`.
    """
    _check_names(policy, _DOCUMENT, "")
    version = policy.get("Version", VERSIONS[0])
    if version not in VERSIONS:
        known = " nor ".join(VERSIONS)
        raise malformed(f"{_shown(version)} is neither {known}", "Version")

    # IAM accepts one statement without a list around it.
    found = policy.get("Statement")
    entries = found if isinstance(found, list) else [found]
    if not all(isinstance(entry, Mapping) for entry in entries):
        raise malformed("it is neither an object nor a list of objects", "Statement")

    statements = [_statement(entry, f"Statement[{index}]") for index, entry in enumerate(entries)]
    return Document(version, tuple(statements))


def malformed(detail: str, where: str | None) -> UsageError:
    """The error for a document that is not a trust policy."""
    return UsageError(
        "oidc-policy-malformed",
        f"this is not a trust policy: {f'{where}: ' if where else ''}{detail}",
        hint="`aws iam get-role --role-name NAME --query Role.AssumeRolePolicyDocument` prints "
        "one.",
        where=where,
    )


def _statement(entry: Mapping[str, Any], where: str) -> PolicyStatement:
    _check_names(entry, _STATEMENT, f"{where}.")

    effect = entry.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise malformed(f"{_shown(effect)} is neither `Allow` nor `Deny`", f"{where}.Effect")

    sid = entry.get("Sid")
    if sid is not None and not isinstance(sid, str):
        raise malformed("it is not a string", f"{where}.Sid")

    for one, other in (("Principal", "NotPrincipal"), ("Action", "NotAction")):
        if one in entry and other in entry:
            raise malformed(f"it has both `{one}` and `{other}`", where)
        if one not in entry and other not in entry:
            raise malformed(f"it has neither `{one}` nor `{other}`", where)

    principals = entry.get("Principal", entry.get("NotPrincipal"))
    actions = entry.get("Action", entry.get("NotAction"))
    return PolicyStatement(
        sid=sid,
        effect=effect,
        principals=_principals(principals, f"{where}.Principal"),
        actions=_strings(actions, f"{where}.Action"),
        conditions=tuple(_conditions(entry.get("Condition", {}), f"{where}.Condition")),
        undecided=tuple(name for name in _UNDECIDED if name in entry),
    )


def _principals(found: Any, where: str) -> dict[str, tuple[str, ...]]:
    if found == "*":
        return {"*": ()}
    if not isinstance(found, Mapping):
        raise malformed('it is neither "*" nor an object such as {"Federated": "ARN"}', where)
    _check_names(found, _PRINCIPALS, f"{where}.")
    return {kind: _strings(names, f"{where}.{kind}") for kind, names in found.items()}


def _conditions(block: Any, where: str) -> Iterator[PolicyCondition]:
    if not isinstance(block, Mapping):
        raise malformed("it is not an object", where)
    for operator, keys in block.items():
        if not isinstance(keys, Mapping):
            raise malformed("it is not an object of keys and values", f"{where}.{operator}")
        for key, values in keys.items():
            strings = _strings(values, f'{where}.{operator}["{key}"]')
            yield PolicyCondition(operator, key, strings)


def _strings(found: Any, where: str) -> tuple[str, ...]:
    """One JSON value or a list of them as strings; IAM reads numbers and booleans as their text."""
    entries = found if isinstance(found, list) else [found]
    if not entries:
        raise malformed("the list is empty", where)
    if any(isinstance(entry, Mapping | list) or entry is None for entry in entries):
        raise malformed("it is neither a string nor a list of strings", where)
    return tuple(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries)


def _check_names(found: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    for name in found:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            suggestion = f"; perhaps you meant `{near[0]}`" if near else ""
            raise malformed(f"there is no such element{suggestion}", f"{where}{name}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object for the JSON decoder, which would silently keep the last of two equal keys."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise malformed("this key appears twice in one object; AWS would drop one", name)
        found[name] = value
    return found


def _shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else "this value"
