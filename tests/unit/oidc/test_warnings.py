"""Policies that allow more than was meant, whether or not they allow the token."""

from typing import Any

import pytest

from support.claim_sets import (
    GITHUB,
    IDS,
    LAB,
    MAIN,
    PINNED,
    equals,
    explained,
    github,
    gitlab,
    like,
    policy,
    warnings,
)


@pytest.mark.parametrize(
    ("claims", "condition", "found"),
    [
        (
            github(),
            {"StringEquals": {":aud": "sts.amazonaws.com", ":repository_id": "456"}},
            ["oidc-missing-subject"],
        ),
        (github(), {"StringNotEquals": {":sub": "x"}}, ["oidc-missing-subject"]),
        (github(), {"Null": {":sub": "false"}}, ["oidc-missing-subject"]),
        (github(), like("*"), ["oidc-subject-too-wide", "oidc-mutable-name"]),
        (github(), like("repo:*"), ["oidc-subject-too-wide", "oidc-mutable-name"]),
        (github(), like("repo:acme/*"), ["oidc-subject-too-wide", "oidc-mutable-name"]),
        (github(), like("repo:acme/dbt*"), ["oidc-subject-too-wide", "oidc-mutable-name"]),
        (github(), like("repo:acme/dbt:*"), ["oidc-subject-too-wide", "oidc-mutable-name"]),
        (github(), like("repo:acme/dbt:?*"), ["oidc-subject-too-wide", "oidc-mutable-name"]),
        (github(), like("repo:acme/dbt:ref:*"), ["oidc-subject-too-wide", "oidc-mutable-name"]),
        (github(), like("repo:acme/dbt:r*"), ["oidc-subject-too-wide", "oidc-mutable-name"]),
        (
            github("environment:live"),
            like("repo:acme/dbt:env*"),
            ["oidc-subject-too-wide", "oidc-mutable-name"],
        ),
        (github(), like("repo:acme/dbt:ref:refs/heads/*"), ["oidc-mutable-name"]),
        (github(), like("repo:acme/dbt:ref:refs/heads/m*"), ["oidc-mutable-name"]),
        (
            gitlab(),
            like("project_path:acme/data/dbt:ref_type:branch:ref:ma*"),
            ["oidc-merge-request-indistinct", "oidc-mutable-name"],
        ),
        (
            gitlab(),
            like("project_path:acme/data/dbt:ref_type:branch:ref:*"),
            ["oidc-subject-too-wide", "oidc-mutable-name"],
        ),
        (
            gitlab(),
            {
                **like("project_path:acme/data/dbt:ref_type:branch:ref:?*"),
                "Bool": {":ref_protected": "true"},
            },
            ["oidc-mutable-name"],
        ),
        (
            gitlab(),
            {
                **like("project_path:acme/data/dbt:ref_type:branch:ref:*"),
                "BoolIfExists": {":ref_protected": "true"},
            },
            ["oidc-subject-too-wide", "oidc-mutable-name"],
        ),
        (
            gitlab("v1", "tag"),
            like("project_path:acme/data/dbt:ref_type:tag:ref:*"),
            ["oidc-mutable-name"],
        ),
        (
            github(),
            {"StringEquals": {":sub": MAIN}, "StringLike": {":repository_id": "*"}},
            ["oidc-mutable-name"],
        ),
        (github(), {"StringEquals": {":sub": MAIN}, "StringLike": {":repository_id": "456"}}, []),
        (
            gitlab(),
            {"StringEquals": {":sub": LAB}, "StringLikeIfExists": {":project_id": "*"}},
            ["oidc-merge-request-indistinct", "oidc-mutable-name"],
        ),
        (
            gitlab(),
            {"StringEquals": {":sub": LAB}, "StringEqualsIfExists": {":project_id": "20"}},
            ["oidc-merge-request-indistinct", "oidc-mutable-name"],
        ),
        (
            gitlab(),
            {"StringEquals": {":sub": LAB, ":project_id": "${gitlab.com:project_id}"}},
            ["oidc-merge-request-indistinct", "oidc-mutable-name"],
        ),
        (
            gitlab(),
            {"StringEquals": {":sub": LAB}, "NumericGreaterThan": {":project_id": "1"}},
            ["oidc-merge-request-indistinct", "oidc-mutable-name"],
        ),
        (github(), {**like("repo:acme/*"), "StringEquals": {":repository_id": "456"}}, []),
        (gitlab(), like("project_path:acme/*"), ["oidc-subject-too-wide", "oidc-mutable-name"]),
        (
            gitlab(),
            like("project_path:acme/data/dbt:ref_type:*:ref:main"),
            ["oidc-subject-too-wide", "oidc-mutable-name"],
        ),
        (gitlab(), equals(LAB), ["oidc-merge-request-indistinct", "oidc-mutable-name"]),
        (
            gitlab(),
            {"StringEquals": {":sub": LAB, ":project_id": "20"}},
            ["oidc-merge-request-indistinct"],
        ),
        (
            gitlab(),
            {"StringEquals": {":sub": LAB, ":project_id": "20", ":ref_protected": "true"}},
            [],
        ),
        (
            gitlab(),
            {
                "StringEquals": {
                    ":sub": LAB,
                    ":project_id": "20",
                    ":pipeline_source": ["push", "web"],
                }
            },
            [],
        ),
        (
            gitlab(),
            {
                "StringEquals": {
                    ":sub": LAB,
                    ":project_id": "20",
                    ":pipeline_source": ["push", "parent_pipeline"],
                }
            },
            ["oidc-merge-request-indistinct"],
        ),
        (
            gitlab(sub="project_id:20:ref_type:branch:ref:main"),
            equals("project_id:20:ref_type:branch:ref:main"),
            [],
        ),
        (gitlab(host="gitlab.example.com"), equals(LAB), ["oidc-merge-request-indistinct"]),
        (
            gitlab(host="gitlab.example.com", sub=f"{LAB}:environment_protected:true"),
            equals(f"{LAB}:environment_protected:true"),
            [],
        ),
        (
            gitlab("v2", "tag", host="gitlab.example.com"),
            equals("project_path:acme/data/dbt:ref_type:tag:ref:v2"),
            [],
        ),
        (github(**IDS), equals(IDS["sub"]), []),
    ],
)
def test_warns_of_policies_that_allow_too_much(
    claims: dict[str, Any], condition: dict[str, Any], found: list[str]
) -> None:
    assert warnings(claims, policy(claims, condition)) == found


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({":repository_id": "456"}, "every ref, pull request and environment of the project may"),
        ({":aud": "sts.amazonaws.com"}, f"every project on {GITHUB} may"),
    ],
)
def test_says_who_can_assume_a_role_without_a_subject_condition(
    keys: dict[str, str], words: str
) -> None:
    (found,) = explained(github(), policy(github(), {"StringEquals": keys})).findings
    assert found.id == "oidc-missing-subject"
    assert words in found.message


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({"ForAllValues:StringEquals": {":project_idd": "7"}}, ["oidc-forallvalues-allows-absent"]),
        (
            {"ForAllValues:StringEquals": {":user_login": "ada"}},
            ["oidc-forallvalues-allows-absent"],
        ),
        (
            {"ForAllValues:StringEquals": {":user_login": "ada"}, "Null": {":user_login": "false"}},
            [],
        ),
        ({"StringNotEquals": {":environment": "test"}}, ["oidc-negated-allows-absent"]),
        ({"StringNotLike": {":user_login": "bot-*"}}, ["oidc-negated-allows-absent"]),
        ({"StringNotEquals": {":user_login": "bot"}, "StringLike": {":user_login": "a*"}}, []),
        ({"StringEqualsIfExists": {":environment": "live"}}, ["oidc-claim-not-visible"]),
        ({"StringEqualsIfExists": {":user_login": "ada"}}, []),
    ],
)
def test_warns_of_conditions_that_hold_if_the_claim_is_absent(
    condition: dict[str, Any], found: list[str]
) -> None:
    assert warnings(gitlab(), policy(gitlab(), {**PINNED, **condition})) == found


def test_conditions_of_a_deny_are_not_linted() -> None:
    document = policy(gitlab(), PINNED)
    document["Statement"] += policy(
        gitlab(), {"StringNotEquals": {":ref_protected": "true"}}, Effect="Deny"
    )["Statement"]
    assert warnings(gitlab(), document) == []
