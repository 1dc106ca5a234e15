"""The request that a token makes: its account, its provider, what AWS sees of it."""

from typing import Any

import pytest

from cipipe.oidc.claims import TokenClaims
from cipipe.oidc.request import request_for, visible
from support.claim_sets import (
    ACCOUNT,
    GITHUB,
    GITLAB,
    LAB,
    equals,
    explained,
    github,
    gitlab,
    policy,
)


@pytest.mark.parametrize(
    "part",
    [
        {
            "Condition": {
                "StringEquals": {f"{GITLAB}:sub": LAB},
                "IpAddress": {"aws:SourceIp": "10.0.0.0/8"},
            }
        },
        {"Condition": {"StringMatches": {f"{GITLAB}:sub": LAB}}},
        {"Principal": {"Federated": f"{ACCOUNT}*"}},
    ],
)
def test_reports_what_cannot_be_decided(part: dict[str, Any]) -> None:
    found = explained(
        gitlab(), policy(gitlab(), equals(LAB), **part), provider=f"{ACCOUNT}{GITLAB}"
    )
    assert found.verdict == "unknown"
    assert "oidc-undecided" in [finding.id for finding in found.findings]


def test_the_account_comes_from_the_role_or_the_provider() -> None:
    document = policy(gitlab(), equals(LAB))
    assert (
        explained(gitlab(), document, role="arn:aws:iam::111111111111:role/path/r").verdict
        == "allowed"
    )
    assert explained(gitlab(), document, provider=f"{ACCOUNT}{GITLAB}").verdict == "allowed"
    other = explained(gitlab(), document, role="arn:aws:iam::222222222222:role/r")
    assert (other.verdict, other.findings[0].id) == ("denied", "oidc-no-provider-for-issuer")
    wrong = explained(gitlab(), document, provider=f"{ACCOUNT}{GITHUB}")
    assert (wrong.verdict, wrong.findings[0].id) == ("denied", "oidc-no-provider-for-issuer")


def test_the_fix_names_the_provider_in_the_account_of_the_policy() -> None:
    (found, *_) = explained(github(), policy(gitlab(), equals(LAB))).findings
    assert found.id == "oidc-no-provider-for-issuer"
    assert found.fix == f'"Principal": {{"Federated": "{ACCOUNT}{GITHUB}"}}'


def test_claims_without_an_issuer_use_the_providers() -> None:
    claims = gitlab()
    document = policy(claims, equals(LAB))
    del claims["iss"]
    assert explained(claims, document, provider=f"{ACCOUNT}{GITLAB}").verdict == "allowed"


@pytest.mark.parametrize(
    ("issuer", "claim", "seen"),
    [
        ("https://gitlab.com", "ref_protected", True),
        ("https://gitlab.com", "project_path", False),
        ("https://gitlab.example.com", "ref_protected", False),
        ("https://gitlab.com/gitlab", "ref_protected", False),
        (f"https://{GITHUB}", "repository_id", True),
        (f"https://{GITHUB}/acme", "repository_id", True),
        (f"https://{GITHUB}/acme/more", "repository_id", False),
        ("https://token.actions.acme.ghe.com", "environment", True),
        ("https://github.example.com/_services/token", "repository_id", False),
        (f"https://{GITHUB}", "repository_owner", False),
        ("https://example.com", "sub", True),
    ],
)
def test_what_aws_sees_of_an_issuer(issuer: str, claim: str, seen: bool) -> None:
    assert (claim in visible(issuer)) is seen
    context = request_for(TokenClaims({}, {"iss": issuer, claim: "x"}), account_id="1").context
    assert (f"{issuer.removeprefix('https://')}:{claim}" in context) is seen
