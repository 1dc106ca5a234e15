"""Documents that are not trust policies: each is refused, with the path of the mistake."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipipe.errors import UsageError
from cipipe.oidc.policy import load, parse

GOOD: dict[str, Any] = {
    "Effect": "Allow",
    "Principal": {"Federated": "arn:aws:iam::111111111111:oidc-provider/gitlab.com"},
    "Action": "sts:AssumeRoleWithWebIdentity",
    "Condition": {"StringEquals": {"gitlab.com:sub": "x"}},
}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ({**GOOD, "Effect": "allow"}, "Statement[0].Effect"),
        ({**GOOD, "Effect": ["Allow"]}, "Statement[0].Effect"),
        ({**GOOD, "Effect": {}}, "Statement[0].Effect"),
        ({**GOOD, "Sid": 1}, "Statement[0].Sid"),
        ({**GOOD, "Conditon": {}}, "Statement[0].Conditon"),
        ({**GOOD, "Condition": ["x"]}, "Statement[0].Condition"),
        ({**GOOD, "Condition": {"StringEquals": "x"}}, "Statement[0].Condition.StringEquals"),
        ({**GOOD, "Condition": {"Bool": {"a": []}}}, 'Statement[0].Condition.Bool["a"]'),
        ({**GOOD, "Action": []}, "Statement[0].Action"),
        ({**GOOD, "Condition": {"Bool": {"a": {}}}}, 'Statement[0].Condition.Bool["a"]'),
        ({**GOOD, "Condition": {"Bool": {"a": None}}}, 'Statement[0].Condition.Bool["a"]'),
        ({**GOOD, "Principal": "arn:aws:iam::1:root"}, "Statement[0].Principal"),
        ({**GOOD, "Principal": {"Federatd": "x"}}, "Statement[0].Principal.Federatd"),
        ({**GOOD, "Principal": {"Federated": {}}}, "Statement[0].Principal.Federated"),
        ({**GOOD, "Principal": []}, "Statement[0].Principal"),
        ({**GOOD, "Action": {}}, "Statement[0].Action"),
        ({**GOOD, "NotAction": "x"}, "Statement[0]"),
        (without("Action"), "Statement[0]"),
        (without("Principal"), "Statement[0]"),
        ("x", "Statement"),
        (None, "Statement"),
    ],
)
def test_names_the_path_in_the_document(statement: Any, where: str) -> None:
    with pytest.raises(UsageError) as caught:
        load({"Version": "2012-10-17", "Statement": [statement]})
    assert (caught.value.id, caught.value.where) == ("oidc-policy-malformed", where)
    assert where in caught.value.message


@pytest.mark.parametrize("version", ["2012-10-18", 2012, None, [], {}])
def test_accepts_two_versions(version: Any) -> None:
    with pytest.raises(UsageError, match="Version"):
        load({"Version": version, "Statement": [GOOD]})


def test_suggests_the_element_that_was_meant() -> None:
    with pytest.raises(UsageError, match="perhaps you meant `Condition`"):
        load({"Statement": {**without("Condition"), "Conditions": {}}})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1, column 1"),
        ("{\n  'a': 1}", "line 2, column 3"),
        ('{"Statement": [], "Statement": []}', "twice"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 101 + "]" * 101, "nested too deeply"),
        ('{"Role": {"AssumeRolePolicyDocument": "x"}}', "not a JSON object"),
    ],
)
def test_says_what_is_wrong_with_the_text(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse(text)
    assert caught.value.id == "oidc-policy-malformed"


def test_unwraps_a_policy() -> None:
    policy = {"Version": "2012-10-17", "Statement": GOOD}
    for text in (
        {"Role": {"RoleName": "r", "AssumeRolePolicyDocument": policy}},
        {"schema": 1, "policy": policy},
    ):
        assert parse(json.dumps(text)) == policy


def test_accepts_a_single_statement_and_converts_values_to_text() -> None:
    statement = {**GOOD, "Condition": {"Bool": {"a": True}, "NumericEquals": {"b": [1, 2.5]}}}
    (found,) = load({"Id": "x", "Statement": statement}).statements
    assert [condition.values for condition in found.conditions] == [("true",), ("1", "2.5")]


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from([*GOOD, "AWS", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


# A statement that is valid except for up to two of its elements.
NEARLY_GOOD = st.builds(
    lambda changes: {**GOOD, **changes},
    st.dictionaries(st.sampled_from(list(GOOD)), JSON, max_size=2),
)


@given(st.dictionaries(st.sampled_from(["Version", "Id", "Statement"]), JSON | NEARLY_GOOD))
def test_any_document_is_loaded_or_refused(document: dict[str, Any]) -> None:
    with contextlib.suppress(UsageError):
        # Anything else that it raises fails the test.
        load(document)
