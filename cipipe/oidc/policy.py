"""A policy document as it is written: from JSON to statements, refused with its place where AWS
would not take it.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from cipipe import bounded
from cipipe.errors import UsageError

VERSIONS = ("2008-10-17", "2012-10-17")
"""Without `Version` a policy has the first; policy variables work in the second only."""

_LONGEST = 16 * bounded.KIB
"""AWS takes trust policies of 2,048 characters, and of 4,096 where the quota was raised."""

_DOCUMENT = ("Version", "Id", "Statement")
_STATEMENT = (
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition",
)  # fmt: skip
_PRINCIPALS = ("AWS", "Federated", "Service", "CanonicalUser")


class PolicyCondition(msgspec.Struct, frozen=True):
    """One operator on one key, with the values beside it."""

    operator: str
    key: str
    values: tuple[str, ...]


class PolicyStatement(msgspec.Struct, frozen=True):
    """One statement. `principals` by their kind, `{"*": ()}` for everybody; `beyond` names elements
    that it has besides.
    """

    sid: str | None
    effect: str
    principals: Mapping[str, tuple[str, ...]]
    actions: tuple[str, ...]
    clauses: tuple[PolicyCondition, ...]
    beyond: tuple[str, ...]


class Document(msgspec.Struct, frozen=True):
    """A whole policy."""

    version: str
    entries: tuple[PolicyStatement, ...]


def parse(text: str) -> dict[str, Any]:
    """A policy document from its JSON; what `aws iam get-role` or `cipipe oidc trust-policy` put
    around it is taken off.

    Raises UsageError `oidc-policy-malformed`.
    """
    try:
        found = bounded.loads(text, object_pairs_hook=_unique)
        compact = json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()
    except json.JSONDecodeError as error:
        raise malformed(
            f"it is not JSON: {error.msg}", f"line {error.lineno}, column {error.colno}"
        ) from None
    except UnicodeEncodeError:
        raise malformed("it has half of a surrogate pair in it, which is no text", None) from None
    except ValueError as error:
        raise malformed(str(error), None) from None
    if len(compact) > _LONGEST:
        raise malformed(
            f"without its whitespace it is larger than {_LONGEST // bounded.KIB} KiB", None
        )
    if isinstance(found, dict) and isinstance(found.get("Role"), dict):
        found = found["Role"].get("AssumeRolePolicyDocument")
    elif isinstance(found, dict) and "schema" in found and "policy" in found:
        found = found["policy"]
    if not isinstance(found, dict):
        raise malformed("it is not a JSON object", None)
    return found


def load(policy: Mapping[str, Any]) -> Document:
    """The statements of a policy document. Raises UsageError `oidc-policy-malformed`, with the
    place.
    """
    _known(policy, _DOCUMENT, "")
    version = policy.get("Version", VERSIONS[0])
    if version not in VERSIONS:
        raise malformed(
            f"{_shown(version)} is none of the versions {', '.join(VERSIONS)}", "Version"
        )
    found = policy.get("Statement")
    entries = found if isinstance(found, list) else [found]
    if not all(isinstance(entry, Mapping) for entry in entries):
        raise malformed("it is neither an object nor a list of objects", "Statement")
    return Document(
        version, tuple(_entry(entry, f"Statement[{index}]") for index, entry in enumerate(entries))
    )


def malformed(detail: str, place: str | None) -> UsageError:
    """The error for a document that is no trust policy."""
    return UsageError(
        "oidc-policy-malformed",
        f"this is not a trust policy: {f'{place}: ' if place else ''}{detail}",
        hint="`aws iam get-role --role-name NAME --query Role.AssumeRolePolicyDocument` prints one.",
        where=place,
    )


def _entry(entry: Mapping[str, Any], place: str) -> PolicyStatement:
    _known(entry, _STATEMENT, f"{place}.")
    effect, sid = entry.get("Effect"), entry.get("Sid")
    if effect not in ("Allow", "Deny"):
        raise malformed(f"{_shown(effect)} is neither `Allow` nor `Deny`", f"{place}.Effect")
    if sid is not None and not isinstance(sid, str):
        raise malformed("it is not a string", f"{place}.Sid")
    for one, other in (("Principal", "NotPrincipal"), ("Action", "NotAction")):
        if (one in entry) == (other in entry):
            both = "both" if one in entry else "neither"
            raise malformed(
                f"it has {both} `{one}` {'and' if one in entry else 'nor'} `{other}`", place
            )
    return PolicyStatement(
        sid,
        effect,
        _principals(entry.get("Principal", entry.get("NotPrincipal")), f"{place}.Principal"),
        _strings(entry.get("Action", entry.get("NotAction")), f"{place}.Action"),
        tuple(_clauses(entry.get("Condition", {}), f"{place}.Condition")),
        tuple(
            name
            for name in ("NotPrincipal", "NotAction", "Resource", "NotResource")
            if name in entry
        ),
    )


def _principals(found: Any, place: str) -> dict[str, tuple[str, ...]]:
    if found == "*":
        return {"*": ()}
    if not isinstance(found, Mapping):
        raise malformed('it is neither "*" nor an object such as {"Federated": "ARN"}', place)
    _known(found, _PRINCIPALS, f"{place}.")
    return {kind: _strings(names, f"{place}.{kind}") for kind, names in found.items()}


def _clauses(block: Any, place: str) -> Iterator[PolicyCondition]:
    if not isinstance(block, Mapping):
        raise malformed("it is not an object", place)
    for operator, keys in block.items():
        if not isinstance(keys, Mapping):
            raise malformed("it is not an object of keys and values", f"{place}.{operator}")
        for key, values in keys.items():
            yield PolicyCondition(operator, key, _strings(values, f'{place}.{operator}["{key}"]'))


def _strings(found: Any, place: str) -> tuple[str, ...]:
    """JSON values as IAM reads them: one or a list of them; numbers and booleans count as their
    text.
    """
    entries = found if isinstance(found, list) else [found]
    if not entries:
        raise malformed("the list is empty", place)
    if any(isinstance(entry, Mapping | list) or entry is None for entry in entries):
        raise malformed("it is neither a string nor a list of strings", place)
    return tuple(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries)


def _known(found: Mapping[str, Any], names: tuple[str, ...], place: str) -> None:
    for name in found:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            suggestion = f"; perhaps you meant `{near[0]}`" if near else ""
            raise malformed(f"there is no such element{suggestion}", f"{place}{name}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise malformed("the same object has this key twice; one of them would be lost", name)
        found[name] = value
    return found


def _shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else "what is there"
