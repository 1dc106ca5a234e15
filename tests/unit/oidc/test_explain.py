from typing import Any

import pytest

from cipipe.oidc.explain import Finding, explain, first_difference, render
from cipipe.oidc.request import Request
from cipipe.oidc.trust_policy import evaluate

ISSUER = "token.actions.githubusercontent.com"
PROVIDER = f"arn:aws:iam::111111111111:oidc-provider/{ISSUER}"
SUBJECT = "repo:group/project:ref:refs/heads/main"
REQUEST = Request(
    provider=PROVIDER,
    issuer=ISSUER,
    context={f"{ISSUER}:sub": (SUBJECT,), f"{ISSUER}:aud": ("sts.amazonaws.com",)},
)


def findings(condition: dict[str, Any], **changes: Any) -> tuple[Finding, ...]:
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": PROVIDER},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": condition,
        **changes,
    }
    return explain(evaluate({"Version": "2012-10-17", "Statement": [statement]}, REQUEST), REQUEST)


def equals(operator: str = "StringEquals", claim: str = "sub", *values: str) -> dict[str, Any]:
    return {operator: {f"{ISSUER}:{claim}": list(values)}}


@pytest.mark.parametrize(
    ("condition", "changes", "id"),
    [
        (
            equals("StringEquals", "sub", "repo:group/other:ref:refs/heads/main"),
            {},
            "oidc-subject-mismatch",
        ),
        (equals("StringLike", "sub", "repo:group/project:ref:refs/tags/*"), {}, "oidc-subject-tag"),
        (equals("StringNotEquals", "sub", SUBJECT), {}, "oidc-subject-mismatch"),
        (
            equals("StringEquals", "sub", "repo:Group/Project:ref:refs/heads/main"),
            {},
            "oidc-subject-case",
        ),
        (equals("StringLike", "sub", "repo:Group/*"), {}, "oidc-subject-case"),
        (
            equals("StringEquals", "sub", "repo:group/project:*"),
            {},
            "oidc-wildcard-needs-stringlike",
        ),
        (
            {**equals("StringLike", "sub", "*"), **equals("StringEquals", "aud", "x")},
            {},
            "oidc-audience-mismatch",
        ),
        (
            {**equals("StringLike", "sub", "*"), **equals("StringEquals", "actor", "x")},
            {},
            "oidc-claim-absent",
        ),
        (
            equals("StringLike", "sub", "*"),
            {"Action": "sts:AssumeRole"},
            "oidc-action-is-assumerole",
        ),
        (equals("StringLike", "sub", "*"), {"Action": "sts:TagSession"}, "oidc-action-mismatch"),
        (
            equals("StringLike", "sub", "*"),
            {"Principal": {"Federated": "arn:aws:iam::111111111111:oidc-provider/gitlab.com"}},
            "oidc-no-provider-for-issuer",
        ),
        (equals("StringLike", "sub", "*"), {"Effect": "Deny"}, "oidc-explicit-deny"),
    ],
)
def test_distinguishes_causes(condition: dict[str, Any], changes: dict[str, Any], id: str) -> None:
    found = findings(condition, **changes)
    assert found[0].id == id
    assert found[0].severity == "error"
    assert found[0].fix


def test_an_allowed_request_has_no_findings() -> None:
    assert findings(equals("StringEquals", "sub", SUBJECT)) == ()


def test_warns_about_a_policy_without_a_subject() -> None:
    (found,) = findings(equals("StringEquals", "aud", "sts.amazonaws.com"))
    assert (found.id, found.severity) == ("oidc-missing-subject", "warning")
    assert SUBJECT in found.fix


def test_the_fix_of_a_wildcard_is_a_complete_line() -> None:
    (found,) = findings(equals("StringEquals", "sub", "x", "repo:group/*"))
    assert found.fix == f'"StringLike": {{"{ISSUER}:sub": "repo:group/*"}}'


@pytest.mark.parametrize(
    ("expected", "actual", "at"),
    [("abc", "abd", 2), ("abc", "abcd", 3), ("abcd", "abc", 3), ("", "a", 0), ("x", "y", 0)],
)
def test_first_difference(expected: str, actual: str, at: int) -> None:
    assert first_difference(expected, actual) == at


def test_renders_expected_above_actual_with_a_pointer() -> None:
    text = render(findings(equals("StringEquals", "sub", "repo:group/project:ref:refs/heads/live")))
    assert text.splitlines() == [
        (
            "oidc-subject-mismatch (statement 0): the token is for the branch main, "
            "which the role does not trust"
        ),
        f"  condition  StringEquals on {ISSUER}:sub",
        "  expected   repo:group/project:ref:refs/heads/live",
        "  actual     repo:group/project:ref:refs/heads/main",
        "                                               ^ the first difference, at character 35",
        f'  fix        "StringEquals": {{"{ISSUER}:sub": "{SUBJECT}"}}',
    ]


def test_renders_an_absent_key() -> None:
    text = render(
        findings({**equals("StringLike", "sub", "*"), **equals("StringEquals", "actor", "x")})
    )
    assert "  actual     (absent)" in text.splitlines()
