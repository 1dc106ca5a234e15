"""The condition operators of IAM policies: one operator, one key, the values of the policy and of
the request.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html
"""

import functools
import ipaddress
import operator as compare
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

_MOST = 100_000
"""Pairs of a policy's and a request's value. Tokens and policies that AWS takes have far fewer."""

_ABSENT = {"true": True, "false": False}

Test = Callable[[str, str], bool | None]
"""Does the request's value (first) match one value of the policy (second)? None where one of them
is not of the type.
"""


class Operator(NamedTuple):
    """An operator without its prefix and suffix. Negated ones hold when no value of the policy
    matches.
    """

    test: Test
    negated: bool = False
    variables: bool = False


def holds(
    operator: str,
    policy: Sequence[str],
    request: Sequence[str] | None,
    *,
    expand: Callable[[str], str] = str,
) -> bool | None:
    """Whether a condition holds; None where that is not known. `request` is None for an absent key.

    - Absent keys: false; true for negated operators, with `IfExists`, and under `ForAllValues`.
    - Several policy values are alternatives; for a negated operator none of them may match.
    - `ForAllValues` asks every value of the request, `ForAnyValue` at least one. Without either, any one value of a
      key with several makes a positive operator hold and a negated one fail.
    - What is not a number, date, address or ARN matches nothing. What a negated operator makes of it is not known, nor
      is any operator that is not in AWS's list, or `Null` with another value than `true` and `false`.
    - Nor is what has more values on both sides than AWS would take.
    - `expand` replaces policy variables in one policy value, for the operators that take them (strings, ARNs, Bool).
    """
    qualifier, _, bare = operator.rpartition(":")
    name = bare.lower()
    if qualifier.lower() not in {"", "foranyvalue", "forallvalues"}:
        return None
    if name == "null" and not qualifier:
        wanted_absent = [_ABSENT.get(value.lower()) for value in policy]
        return None if None in wanted_absent else (request is None) in wanted_absent
    if_exists = name.endswith("ifexists")
    known = _OPERATORS.get(name.removesuffix("ifexists"))
    if known is None:
        return None
    if not request:
        if qualifier.lower() == "forallvalues" or if_exists:
            return True
        return known.negated and not qualifier
    if len(policy) * len(request) > _MOST:
        return None
    wanted = [expand(value) for value in policy] if known.variables else list(policy)
    tests = [[known.test(value, pattern) for pattern in wanted] for value in request]
    if known.negated and any(None in row for row in tests):
        return None
    matches = [any(row) for row in tests]
    results = [not match for match in matches] if known.negated else matches
    if qualifier.lower() == "forallvalues" or (known.negated and not qualifier):
        return all(results)
    return any(results)


def negated(operator: str) -> bool:
    """Whether the operator is one of the `Not…` ones."""
    known = _OPERATORS.get(operator.rpartition(":")[2].lower().removesuffix("ifexists"))
    return known is not None and known.negated


def tolerant(operator: str) -> bool:
    """Whether the operator holds where the key is absent, so that it restricts only requests that
    have it.
    """
    return holds(operator, ("",), None) is True


def base(operator: str) -> str:
    """The operator without set operator and `IfExists`, as it is written."""
    return re.sub("IfExists$", "", operator.rpartition(":")[2], flags=re.IGNORECASE)


def like(value: str, pattern: str) -> bool:
    """Match with IAM's wildcards: `*` any characters, `?` exactly one; `${*}`, `${?}` and `${$}`
    stand for themselves.

    All ways to match are followed at once, a bit each, so that no pattern takes longer than another
    of its length.
    """
    glob = _glob(pattern)
    at = 1
    for character in value:
        at = ((at & glob.takes.get(character, glob.any)) << 1) | (at & glob.stars)
        if not at:
            return False
    return bool(at >> glob.length)


class _Glob(NamedTuple):
    """A pattern without its stars: which places take a character, which take any, and before which
    a star stands.
    """

    takes: Mapping[str, int]
    any: int
    stars: int
    length: int


@functools.lru_cache(maxsize=1024)
def _glob(pattern: str) -> _Glob:
    takes: dict[str, int] = {}
    anything = stars = length = 0
    for part in re.findall(r"\$\{[*?$]\}|.", pattern, re.DOTALL):
        place = 1 << length
        if part == "*":
            stars |= place
            continue
        if part == "?":
            anything |= place
        else:
            literal = part[2] if len(part) > 1 else part
            takes[literal] = takes.get(literal, 0) | place
        length += 1
    return _Glob(
        {character: places | anything for character, places in takes.items()},
        anything,
        stars,
        length,
    )


def literal(operator: str, value: str) -> str:
    """What a policy's value begins with that stands for itself: all of it, unless it has wildcards
    or variables.
    """
    if base(operator).lower() not in {"stringlike", "stringnotlike", "arnlike", "arnequals"}:
        return value.partition("${")[0] if re.search(r"\$\{(?![*?$]\})", value) else value
    match = re.search(r"(?<!\{)[*?]|\$\{(?![*?$]\})", value)
    return value[: match.start()] if match else value


def _plain(pattern: str) -> str:
    return re.sub(r"\$\{([*?$])\}", r"\1", pattern)


def _arn_like(value: str, pattern: str) -> bool | None:
    one, other = value.split(":", 5), pattern.split(":", 5)
    return all(map(like, one, other)) if len(one) == len(other) == 6 else None


def _number(relation: Callable[[Decimal, Decimal], bool]) -> Test:
    def test(value: str, wanted: str) -> bool | None:
        try:
            return relation(Decimal(value), Decimal(wanted))
        except InvalidOperation:
            return None

    return test


def _date(relation: Callable[[datetime, datetime], bool]) -> Test:
    def test(value: str, wanted: str) -> bool | None:
        try:
            return relation(_moment(value), _moment(wanted))
        except (ValueError, OverflowError, OSError):
            return None

    return test


def _moment(text: str) -> datetime:
    if re.fullmatch(r"\d+(\.\d+)?", text) and not re.fullmatch(r"\d{4}", text):
        return datetime.fromtimestamp(float(text), UTC)
    found = datetime.fromisoformat(f"{text}-01-01" if re.fullmatch(r"\d{4}", text) else text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _in_network(value: str, wanted: str) -> bool | None:
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        return None


def _table() -> Mapping[str, Operator]:
    positive: dict[str, tuple[str | None, Test, bool]] = {
        "stringequals": ("stringnotequals", lambda value, wanted: value == _plain(wanted), True),
        "stringequalsignorecase": (
            "stringnotequalsignorecase",
            lambda value, wanted: value.casefold() == _plain(wanted).casefold(),
            True,
        ),
        "stringlike": ("stringnotlike", like, True),
        "arnequals": ("arnnotequals", _arn_like, True),
        "arnlike": ("arnnotlike", _arn_like, True),
        "bool": (
            None,
            lambda value, wanted: (
                value.lower() == _plain(wanted).lower() and value.lower() in {"true", "false"}
            ),
            True,
        ),
        "binaryequals": (None, lambda value, wanted: value == wanted, False),  # both in base64
        "ipaddress": ("notipaddress", _in_network, False),
        "numericequals": ("numericnotequals", _number(compare.eq), False),
        "numericlessthan": (None, _number(compare.lt), False),
        "numericlessthanequals": (None, _number(compare.le), False),
        "numericgreaterthan": (None, _number(compare.gt), False),
        "numericgreaterthanequals": (None, _number(compare.ge), False),
        "dateequals": ("datenotequals", _date(compare.eq), False),
        "datelessthan": (None, _date(compare.lt), False),
        "datelessthanequals": (None, _date(compare.le), False),
        "dategreaterthan": (None, _date(compare.gt), False),
        "dategreaterthanequals": (None, _date(compare.ge), False),
    }
    table: dict[str, Operator] = {}
    for name, (opposite, test, variables) in positive.items():
        table[name] = Operator(test, negated=False, variables=variables)
        if opposite:
            table[opposite] = Operator(test, negated=True, variables=variables)
    return table


_OPERATORS = _table()
