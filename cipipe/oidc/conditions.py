"""The condition operators of IAM policies: an operator, the policy's
values, the request's values.

IAM User Guide (https://docs.aws.amazon.com/IAM/latest/UserGuide/), pages:
reference_policies_elements_condition_operators.html
reference_policies_condition-single-vs-multi-valued-context-keys.html
"""

import functools
import ipaddress
import operator as compare
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

# Pairs of a policy's value and a request's value. What AWS accepts has far
# fewer; more would only take time.
_MOST_PAIRS = 100_000

_ABSENT = {"true": True, "false": False}

# Whether the request's value (first) matches one value of the policy
# (second). None if one of them is not of the operator's type.
Test = Callable[[str, str], bool | None]


class Operator(NamedTuple):
    """An operator without `ForAnyValue:` or `ForAllValues:` and without `IfExists`."""

    test: Test

    # A negated operator holds if no value of the policy matches.
    negated: bool = False

    # Whether policy variables are replaced in its values.
    variables: bool = False


def holds(
    operator: str,
    policy: Sequence[str],
    request: Sequence[str] | None,
    *,
    expand: Callable[[str], str] = str,
) -> bool | None:
    """Whether a condition holds; None if that is not known. `request` is
    None for an absent key.

    - An absent key: false, except for negated operators, with `IfExists` and with `ForAllValues`.
    - Several policy values are alternatives; for a negated operator none of them may match.
    - `ForAllValues` needs every value of the request to match, `ForAnyValue` at least one. Without
      either, a positive operator holds if any value of the request matches; a negated one fails.
    - A value that is not a number, date, address or ARN matches nothing. With a negated operator
      the result is unknown. It also is for operators that AWS does not list, for `Null` with
      anything but `true` and `false`, and for more values than AWS would accept.
    - `expand` replaces policy variables in a policy value, for the operators that support them
      (strings, ARNs, Bool).
    """
    qualifier, _, bare = operator.rpartition(":")
    qualifier = qualifier.lower()
    name = bare.lower()
    if qualifier not in {"", "foranyvalue", "forallvalues"}:
        return None

    if name == "null" and not qualifier:
        wanted_absent = [_ABSENT.get(value.lower()) for value in policy]
        return None if None in wanted_absent else (request is None) in wanted_absent

    known = _OPERATORS.get(name.removesuffix("ifexists"))
    if known is None:
        return None

    if not request:
        if qualifier == "forallvalues" or name.endswith("ifexists"):
            return True
        return known.negated and not qualifier

    if len(policy) * len(request) > _MOST_PAIRS:
        return None
    wanted = [expand(value) for value in policy] if known.variables else list(policy)
    tests = [[known.test(value, pattern) for pattern in wanted] for value in request]
    if known.negated and any(None in row for row in tests):
        return None

    matches = [any(row) for row in tests]
    results = [not match for match in matches] if known.negated else matches
    if qualifier == "forallvalues" or (known.negated and not qualifier):
        return all(results)
    return any(results)


def negated(operator: str) -> bool:
    """Whether the operator is one of the `Not…` ones."""
    known = _OPERATORS.get(operator.rpartition(":")[2].lower().removesuffix("ifexists"))
    return known is not None and known.negated


def tolerant(operator: str) -> bool:
    """Whether the operator holds for an absent key: it restricts only requests that have it."""
    return holds(operator, ("",), None) is True


def base(operator: str) -> str:
    """The operator as it is written, without set operator and `IfExists`."""
    return re.sub("IfExists$", "", operator.rpartition(":")[2], flags=re.IGNORECASE)


def like(value: str, pattern: str) -> bool:
    """Match with IAM's wildcards: `*` any characters, `?` exactly one.

    `${*}`, `${?}` and `${$}` are the literal characters. Runs in time
    proportional to the text, whatever the pattern: all ways to match are
    followed at once, one bit each.
    """
    glob = _glob(pattern)
    positions = 1
    for character in value:
        # A position moves on past a character that fits there, and also
        # stays put before a star.
        moved = (positions & glob.accepts.get(character, glob.any)) << 1
        positions = moved | (positions & glob.stars)
        if not positions:
            return False
    return bool(positions >> glob.length)


class _Glob(NamedTuple):
    """A pattern without its stars, as bits: bit i stands for the i-th position of the pattern."""

    # Character → the positions that accept it. `any`: the positions that
    # accept every character.
    accepts: Mapping[str, int]
    any: int

    # The positions before which a star is written.
    stars: int
    length: int


@functools.lru_cache(maxsize=1024)
def _glob(pattern: str) -> _Glob:
    accepts: dict[str, int] = {}
    anything = 0
    stars = 0
    length = 0
    for part in re.findall(r"\$\{[*?$]\}|.", pattern, re.DOTALL):
        position = 1 << length
        if part == "*":
            stars |= position
            continue
        if part == "?":
            anything |= position
        else:
            literal = part[2] if len(part) > 1 else part
            accepts[literal] = accepts.get(literal, 0) | position
        length += 1

    every = {character: positions | anything for character, positions in accepts.items()}
    return _Glob(accepts=every, any=anything, stars=stars, length=length)


def literal(operator: str, value: str) -> str:
    """The literal start of a policy's value: all of it unless it has wildcards or variables."""
    if base(operator).lower() not in {"stringlike", "stringnotlike", "arnlike", "arnequals"}:
        return value.partition("${")[0] if re.search(r"\$\{(?![*?$]\})", value) else value
    match = re.search(r"(?<!\{)[*?]|\$\{(?![*?$]\})", value)
    return value[: match.start()] if match else value


def _plain(pattern: str) -> str:
    return re.sub(r"\$\{([*?$])\}", r"\1", pattern)


def _arn_like(value: str, pattern: str) -> bool | None:
    # The six parts of an ARN are compared one by one: a star does not cross
    # a colon.
    parts = value.split(":", 5)
    patterns = pattern.split(":", 5)
    return all(map(like, parts, patterns)) if len(parts) == len(patterns) == 6 else None


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
    """ISO 8601 or seconds since 1970. Four digits are a year."""
    if re.fullmatch(r"\d+(\.\d+)?", text) and not re.fullmatch(r"\d{4}", text):
        return datetime.fromtimestamp(float(text), UTC)
    found = datetime.fromisoformat(f"{text}-01-01" if re.fullmatch(r"\d{4}", text) else text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _in_network(value: str, wanted: str) -> bool | None:
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        return None


def _equal(value: str, wanted: str) -> bool:
    return value == _plain(wanted)


def _equal_ignoring_case(value: str, wanted: str) -> bool:
    return value.casefold() == _plain(wanted).casefold()


def _bool(value: str, wanted: str) -> bool:
    return value.lower() == _plain(wanted).lower() and value.lower() in {"true", "false"}


def _table() -> Mapping[str, Operator]:
    # Positive operator → its negation if there is one, its test, whether it
    # replaces variables.
    positive: dict[str, tuple[str | None, Test, bool]] = {
        "stringequals": ("stringnotequals", _equal, True),
        "stringequalsignorecase": ("stringnotequalsignorecase", _equal_ignoring_case, True),
        "stringlike": ("stringnotlike", like, True),
        "arnequals": ("arnnotequals", _arn_like, True),
        "arnlike": ("arnnotlike", _arn_like, True),
        "bool": (None, _bool, True),
        "binaryequals": (None, compare.eq, False),  # both are base64
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


# By names in lower case: IAM does not distinguish upper and lower case
# here.
_OPERATORS = _table()
