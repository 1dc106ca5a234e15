"""Our evaluator of trust policies against one that is not ours, on generated policies and requests.

The other one (tests/oracle/) leaves AWS's documentation in some places, which `documented` writes
out: it gets each policy a second time in a form without them, and has to agree then. It knows no
keys `sub` and `aud`; others of gitlab.com represent them.
"""

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cipipe.oidc import conditions
from cipipe.oidc.request import Request
from cipipe.oidc.trust_policy import evaluate

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / ".cipipe" / "oracle"
EXAMPLES = int(os.environ.get("ORACLE_EXAMPLES", "1500"))

PROVIDER = "arn:aws:iam::111111111111:oidc-provider/gitlab.com"
OTHER = "arn:aws:iam::111111111111:oidc-provider/token.actions.githubusercontent.com"
ROLE = "arn:aws:iam::111111111111:role/deploy"
KEYS = (
    "gitlab.com:project_id",
    "gitlab.com:pipeline_source",
    "gitlab.com:user_login",
    "gitlab.com:ref_protected",
)
MANY = "aws:TagKeys"

DIFFERENCES = {
    "IfExists under ForAnyValue, without the key": (
        # "If the key is not present, evaluate the condition element as true", of every operator but
        # Null. The other one lets ForAnyValue win, which is false without a key.
        "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html#Conditions_IfExists"
    ),
    "an escape outside of patterns": (
        # ${*}, ${?} and ${$} may be wherever a variable may. The other one reads them in
        # patterns (StringLike, ARNs) only.
        "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html#policy-vars-specialchars"
    ),
    "one address under NotIpAddress, against one of the other family": (
        # All addresses but those of the policy. The other one has it so for networks, and not for a
        # single address.
        "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html#Conditions_IPAddress"
    ),
    "several values without a set operator": (
        # The page asks for a set operator and leaves open what happens without one. The other one
        # never matches; ours takes any of the values, so that a Deny that was written without one
        # still denies.
        "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html"
    ),
}

Condition = dict[str, dict[str, list[str]]]
TEXTS = ["main", "Main", "v1", "v10", "release/1", "a*b", "m?in", "true", "10"]
PATTERNS = [
    *TEXTS,
    "",
    "m*",
    "*",
    "?ain",
    "v1?",
    "v${*}",
    "a${*}b",
    "m${?}in",
    "${$}",
    "*/*",
    "${gitlab.com:user_login}",
    "x${gitlab.com:none, 'main'}",
]
NUMBERS = ["7", "10", "10.0", "-3", "2.5"]
DATES = [
    "2026-01-01T00:00:00Z",
    "2026-06-01T12:30:00Z",
    "2025-12-31T23:59:59Z",
    "2026-01-01T01:00:00+01:00",
]
BOOLS = ["true", "false", "True", "FALSE", "yes"]
ADDRESSES = [
    "10.0.0.1",
    "10.1.2.3",
    "192.168.1.9",
    "2001:db8::1",
    "10.0.0.0/8",
    "10.0.0.0/30",
    "2001:db8::/32",
]
ARNS = [
    "arn:aws:iam::111111111111:role/a",
    "arn:aws:iam::222222222222:role/a",
    "arn:aws:iam::111111111111:role/b/c",
]
ARN_PATTERNS = [
    *ARNS,
    "arn:aws:iam::*:role/a",
    "arn:aws:iam::111111111111:role/*",
    "arn:aws:*",
    "arn:*:*:*:*:*",
]
BINARY = ["QmluYXJ5", "bWFpbg=="]

FAMILIES: dict[str, tuple[tuple[str, ...], list[str], list[str]]] = {
    "string": (
        (
            "StringEquals",
            "StringNotEquals",
            "StringEqualsIgnoreCase",
            "StringNotEqualsIgnoreCase",
            "StringLike",
            "StringNotLike",
        ),
        PATTERNS,
        TEXTS,
    ),
    "number": (
        (
            "NumericEquals",
            "NumericNotEquals",
            "NumericLessThan",
            "NumericLessThanEquals",
            "NumericGreaterThan",
            "NumericGreaterThanEquals",
        ),
        NUMBERS,
        NUMBERS,
    ),
    "date": (
        (
            "DateEquals",
            "DateNotEquals",
            "DateLessThan",
            "DateLessThanEquals",
            "DateGreaterThan",
            "DateGreaterThanEquals",
        ),
        DATES,
        DATES,
    ),
    "bool": (("Bool",), BOOLS, BOOLS),
    "address": (("IpAddress", "NotIpAddress"), ADDRESSES, ADDRESSES[:4]),
    "arn": (("ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"), ARN_PATTERNS, ARNS),
    "binary": (("BinaryEquals",), BINARY, BINARY),
}


class Oracle:
    """The other evaluator: one process for all examples, a line of JSON each way."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._in, self._out = cast(IO[str], process.stdin), cast(IO[str], process.stdout)

    def allows(self, policy: dict[str, Any], context: dict[str, Any]) -> bool:
        self._in.write(
            json.dumps({"policy": policy, "provider": PROVIDER, "role": ROLE, "context": context})
            + "\n"
        )
        self._in.flush()
        answer = json.loads(self._out.readline())
        assert "error" not in answer, answer
        assert answer["ignored"] == [], "the other evaluator did not look at a key"
        return bool(answer["result"] == "Allowed")


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    node = shutil.which("node")
    if node is None or not (INSTALLED / "node_modules").is_dir():
        message = "node, or what npm installs for it, is not here; run scripts/setup test"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    argv = [node, str(ROOT / "tests/oracle/evaluate.mjs"), str(INSTALLED)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Oracle(process)
        cast(IO[str], process.stdin).close()


def some(values: list[str], most: int = 3) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


def clause(draw: st.DrawFn, families: dict[str, str]) -> tuple[str, str, list[str]]:
    """Operator, key and values. A key has values of one type: what AWS makes of others it does not
    say.
    """
    key = draw(st.sampled_from(list(families)))
    if draw(st.integers(0, 9)) == 0:
        return "Null", key, [draw(st.sampled_from(["true", "false"]))]
    operators, values, _ = FAMILIES[families[key]]
    qualifier = draw(st.sampled_from(["", "", "", "ForAnyValue:", "ForAllValues:"]))
    operator = (
        qualifier + draw(st.sampled_from(operators)) + draw(st.sampled_from(["", "", "IfExists"]))
    )
    spelt = draw(st.sampled_from([key, key, key.upper(), key.lower()]))
    return draw(st.sampled_from([operator, operator, operator.lower()])), spelt, draw(some(values))


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A policy and the request's keys."""
    families = {
        key: draw(st.sampled_from([*FAMILIES, "string", "string", "string"]))
        for key in [*KEYS, MANY]
    }
    context: dict[str, Any] = {}
    for key, family in families.items():
        if draw(st.integers(0, 3)):
            values = FAMILIES[family][2]
            context[key] = draw(some(values)) if key == MANY else draw(st.sampled_from(values))
    sizes = draw(st.lists(st.integers(0, 2), min_size=1, max_size=3))
    statements = [_statement(draw, [clause(draw, families) for _ in range(size)]) for size in sizes]
    return {"Version": "2012-10-17", "Statement": statements}, context


def _statement(draw: st.DrawFn, clauses: list[tuple[str, str, list[str]]]) -> dict[str, Any]:
    condition: Condition = {}
    for operator, key, values in clauses:
        condition.setdefault(operator, {})[key] = values
    federated = [{"Federated": PROVIDER}] * 4 + [
        {"Federated": [OTHER, PROVIDER]},
        {"Federated": OTHER},
    ]
    exact = ["sts:AssumeRoleWithWebIdentity"] * 4
    other = [
        "sts:*",
        "STS:assumerolewithwebidentity",
        "sts:AssumeRole*",
        "sts:AssumeRole",
        "*",
        "sts:?ssumeRole*Identity",
    ]
    action = st.sampled_from([*exact, *other])
    return {
        "Effect": draw(st.sampled_from(["Allow", "Allow", "Allow", "Deny"])),
        "Principal": draw(st.sampled_from([*federated, "*", {"AWS": "*"}])),
        "Action": draw(st.one_of(action, st.lists(action, min_size=1, max_size=2, unique=True))),
        "Condition": condition,
    }


def documented(policy: dict[str, Any], context: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """The policy without what the other evaluator reads differently, and those differences."""
    there = {key.lower(): value for key, value in context.items()}
    met: set[str] = set()
    statements = []
    for statement in policy["Statement"]:
        condition: Condition = {}
        for operator, keys in statement["Condition"].items():
            lower = operator.lower()
            for key, values in keys.items():
                said = operator
                if (
                    lower.startswith("foranyvalue:")
                    and lower.endswith("ifexists")
                    and key.lower() not in there
                ):
                    met.add("IfExists under ForAnyValue, without the key")
                    continue
                if (
                    isinstance(there.get(key.lower()), list)
                    and ":" not in operator
                    and lower != "null"
                ):
                    met.add("several values without a set operator")
                    every = conditions.negated(operator)
                    said = f"{'ForAllValues' if every else 'ForAnyValue'}:{operator}"
                written = values
                if lower.rpartition(":")[2].startswith("notipaddress"):
                    written = [
                        value if "/" in value else f"{value}/{128 if ':' in value else 32}"
                        for value in values
                    ]
                    met |= (
                        {"one address under NotIpAddress, against one of the other family"}
                        if written != values
                        else set()
                    )
                if "string" in lower and "like" not in lower:
                    written = [re.sub(r"\$\{([*?$])\}", r"\1", value) for value in values]
                    met |= {"an escape outside of patterns"} if written != values else set()
                condition.setdefault(said, {})[key] = written
        statements.append({**statement, "Condition": condition})
    return {**policy, "Statement": statements}, met


def test_agrees_with_an_independent_evaluator(
    oracle: Oracle, capsys: pytest.CaptureFixture[str]
) -> None:
    counted: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES,
        derandomize="ORACLE_EXAMPLES" not in os.environ,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def compare(case: tuple[dict[str, Any], dict[str, Any]]) -> None:
        policy, context = case
        keys = {
            key.lower(): tuple(value) if isinstance(value, list) else (value,)
            for key, value in context.items()
        }
        ours = evaluate(
            policy, Request(provider=PROVIDER, issuer="gitlab.com", context=keys)
        ).verdict
        counted["all"] += 1
        counted[ours] += 1
        if ours == "unknown":
            return
        plain, differences = documented(policy, context)
        assert ours == ("allowed" if oracle.allows(plain, context) else "denied")
        raw = oracle.allows(policy, context)
        counted["agreed" if raw == (ours == "allowed") else " and ".join(sorted(differences))] += 1

    compare()
    decided = counted["all"] - counted["unknown"]
    with capsys.disabled():
        print(
            f"\nagreed on {counted['agreed']} of {decided}; {counted['unknown']} "
            "more are unknown to ours"
        )
        for name in sorted(set(counted) - {"all", "agreed", "allowed", "denied", "unknown"}):
            print(f"  {counted[name]} differ, as documented: {name}")
    assert counted[""] == 0, "they differ where no difference is known"
    assert min(counted["allowed"], counted["denied"]) > decided / 10, "one verdict hardly occurs"
    assert decided > counted["all"] / 2, "most of them are not compared"
    assert all(page.startswith("https://docs.aws.amazon.com/IAM/") for page in DIFFERENCES.values())
