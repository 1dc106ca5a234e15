"""Why a policy denies a token: the finding, and a fix that works."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.claim_sets import (
    ACCOUNT,
    FLAT,
    GITHUB,
    GITLAB,
    IDS,
    LAB,
    MAIN,
    PINNED,
    TAGS,
    equals,
    errors,
    explained,
    github,
    gitlab,
    like,
    policy,
)


@pytest.mark.parametrize(
    ("claims", "condition"),
    [
        (github(), equals(MAIN)),
        (github(), like("repo:acme/dbt:ref:refs/heads/*")),
        (github("ref:refs/tags/v1.2.0"), like("repo:acme/dbt:ref:refs/tags/v*")),
        (github("environment:live"), equals("repo:acme/dbt:environment:live")),
        (github("environment:Prod%3AV1"), equals("repo:acme/dbt:environment:Prod%3AV1")),
        (github("pull_request", event_name="pull_request"), equals("repo:acme/dbt:pull_request")),
        (github(**IDS), equals(IDS["sub"])),
        (github(**IDS), like("repo:acme@123/dbt@456:*")),
        (
            github(),
            {
                **equals(MAIN),
                "StringLike": {":job_workflow_ref": "acme/dbt/.github/workflows/deploy.yml@*"},
            },
        ),
        (
            github(host=f"{GITHUB}/acme"),
            {**equals(MAIN), "ForAnyValue:StringEquals": {":repository_id": "456"}},
        ),
        (gitlab(), equals(LAB)),
        (gitlab(), {"StringEquals": {":SUB": LAB, ":Aud": ["https://x", "https://gitlab.com"]}}),
        (gitlab("v1", "tag"), like("project_path:acme/data/dbt:ref_type:tag:ref:v?")),
        (gitlab(), {"StringEquals": {":sub": LAB, ":ref_protected": "true", ":project_id": 20}}),
        (gitlab(host="gitlab.example.com/gl"), equals(LAB)),
        (
            gitlab(aud=["https://other", "https://gitlab.com"]),
            {"StringEquals": {":sub": LAB, ":aud": "https://gitlab.com"}},
        ),
        (gitlab(), {**equals(LAB), "Null": {":ref_protected": "false"}}),
        (gitlab(), {**equals(LAB), "Null": {":environment": "true"}}),
        (
            gitlab(),
            {
                **equals(LAB),
                "NumericLessThan": {":project_id": "21"},
                "Bool": {":ref_protected": "TRUE"},
            },
        ),
    ],
)
def test_allowed(claims: dict[str, Any], condition: dict[str, Any]) -> None:
    found = explained(claims, policy(claims, condition))
    assert found.verdict == "allowed"
    assert [finding for finding in found.findings if finding.severity == "error"] == []


@pytest.mark.parametrize(
    "action", ["sts:*", "*", "STS:ASSUMEROLEWITH*", ["sts:TagSession", "sts:AssumeRole*"]]
)
def test_actions_that_cover_the_exchange(action: Any) -> None:
    assert explained(gitlab(), policy(gitlab(), equals(LAB), Action=action)).verdict == "allowed"


SUBJECTS = [
    (github("environment:live"), equals(MAIN), "oidc-subject-environment"),
    (github("environment:live"), like("repo:acme/dbt:ref:*"), "oidc-subject-environment"),
    (github(), equals("repo:acme/dbt:environment:live"), "oidc-subject-environment"),
    (
        github("environment:test"),
        equals("repo:acme/dbt:environment:live"),
        "oidc-subject-environment",
    ),
    (
        github("environment:Prod%3AV1"),
        equals("repo:acme/dbt:environment:Prod:V1"),
        "oidc-subject-environment",
    ),
    (github(**IDS), equals(MAIN), "oidc-subject-immutable"),
    (github(**IDS), like("repo:acme/dbt:*"), "oidc-subject-immutable"),
    (github(), equals(IDS["sub"]), "oidc-subject-immutable"),
    (
        github(sub="repo:acme@123/dbt@456:environment:live"),
        equals(MAIN),
        "oidc-subject-environment",
    ),
    (github(), equals("repo:Acme/DBT:ref:refs/heads/main"), "oidc-subject-case"),
    (github("pull_request", event_name="pull_request"), equals(MAIN), "oidc-subject-pull-request"),
    (github(), equals("repo:acme/dbt:pull_request"), "oidc-subject-pull-request"),
    (
        gitlab("feature", pipeline_source="merge_request_event"),
        equals(LAB),
        "oidc-subject-pull-request",
    ),
    (github("ref:refs/tags/v1"), equals(MAIN), "oidc-subject-tag"),
    (github(), like("repo:acme/dbt:ref:refs/tags/*"), "oidc-subject-tag"),
    (gitlab("v1", "tag"), equals(LAB), "oidc-subject-tag"),
    (github(sub="repository_owner_id:123:repository_id:456"), equals(MAIN), "oidc-subject-custom"),
    (
        github(),
        equals("job_workflow_ref:acme/x/.github/workflows/y.yml@main"),
        "oidc-subject-custom",
    ),
    (gitlab(sub="project_id:20:ref_type:branch:ref:main"), equals(LAB), "oidc-subject-custom"),
    (github("ref:refs/heads/side"), equals(MAIN), "oidc-subject-mismatch"),
    (github(repository="mallory/dbt"), equals(MAIN), "oidc-subject-mismatch"),
    (github(repository="mallory/dbt"), like("repo:acme/*"), "oidc-subject-mismatch"),
    (gitlab("side"), equals(LAB), "oidc-subject-mismatch"),
    (gitlab(project_path="mallory/dbt"), equals(LAB), "oidc-subject-mismatch"),
    (
        gitlab(project_path="mallory/dbt", pipeline_source="merge_request_event"),
        equals(LAB),
        "oidc-subject-mismatch",
    ),
    (github(), equals("repo:acme/dbt:*"), "oidc-wildcard-needs-stringlike"),
    (
        gitlab(),
        equals("x", "project_path:acme/data/dbt:ref_type:?ranch:ref:main"),
        "oidc-wildcard-needs-stringlike",
    ),
]


@pytest.mark.parametrize(("claims", "condition", "id"), SUBJECTS)
def test_distinguishes_subjects(claims: dict[str, Any], condition: dict[str, Any], id: str) -> None:
    assert errors(claims, policy(claims, condition)) == [id]


@pytest.mark.parametrize(("claims", "condition", "id"), SUBJECTS)
def test_the_fix_makes_the_policy_accept_the_token(
    claims: dict[str, Any], condition: dict[str, Any], id: str
) -> None:
    document = policy(claims, condition)
    fix = json.loads("{" + explained(claims, document).findings[0].fix + "}")
    document["Statement"][0]["Condition"] = fix
    assert explained(claims, document).verdict == "allowed"


@pytest.mark.parametrize(
    ("claims", "condition", "id", "words"),
    [
        (
            gitlab(aud="x"),
            {"StringEquals": {":sub": LAB, ":aud": "https://gitlab.com"}},
            "oidc-audience-mismatch",
            "",
        ),
        (
            gitlab(),
            {**equals(LAB), "StringLike": {":project_path": "acme/*"}},
            "oidc-claim-not-visible",
            "the token has it",
        ),
        (
            gitlab(),
            {**equals(LAB), "Bool": {":ref_protectd": "true"}},
            "oidc-claim-not-visible",
            "perhaps ref_protected",
        ),
        (
            gitlab(host="gitlab.example.com"),
            {"StringEquals": {":sub": LAB, ":ref_protected": "true"}},
            "oidc-claim-not-visible",
            "AWS offers only amr, aud, sub",
        ),
        (
            gitlab(),
            {"StringEquals": {"https://gitlab.com:sub": LAB}},
            "oidc-claim-not-visible",
            "no scheme and no final slash",
        ),
        (
            gitlab(),
            {"StringEquals": {f"{GITHUB}:sub": LAB}},
            "oidc-claim-not-visible",
            f"a key of {GITHUB}",
        ),
        (
            github(),
            {"StringEquals": {":sub": MAIN, ":environment": "live"}},
            "oidc-claim-absent",
            "this token has none",
        ),
        (
            gitlab(),
            {**equals(LAB), "ForAnyValue:StringEquals": {":user_name": "ada"}},
            "oidc-claim-not-visible",
            "",
        ),
        (
            gitlab(),
            {**equals(LAB), "Null": {":user_login": "true"}},
            "oidc-claim-mismatch",
            "to be absent",
        ),
        (
            gitlab(),
            {**equals(LAB), "Null": {":environment": "false"}},
            "oidc-claim-not-visible",
            "",
        ),
        (
            gitlab(),
            {**equals(LAB), "Bool": {":ref_protected": "false"}},
            "oidc-claim-mismatch",
            "ref_protected",
        ),
        (
            gitlab(),
            {"StringNotLike": {":sub": "project_path:acme/*"}},
            "oidc-subject-mismatch",
            "excludes",
        ),
    ],
)
def test_distinguishes_claims(
    claims: dict[str, Any], condition: dict[str, Any], id: str, words: str
) -> None:
    found = explained(claims, policy(claims, condition))
    (error,) = [finding for finding in found.findings if finding.severity == "error"]
    assert (found.verdict, error.id) == ("denied", id)
    assert words in error.message
    assert error.fix


@pytest.mark.parametrize(
    ("changes", "id"),
    [
        ({"Action": "sts:AssumeRole"}, "oidc-action-is-assumerole"),
        ({"Action": "sts:TagSession"}, "oidc-action-mismatch"),
        ({"Effect": "Deny"}, "oidc-explicit-deny"),
        ({"Principal": {"Federated": f"{ACCOUNT}{GITHUB}"}}, "oidc-no-provider-for-issuer"),
        ({"Principal": {"AWS": "arn:aws:iam::111111111111:root"}}, "oidc-no-provider-for-issuer"),
        ({"Principal": {"Service": ["ec2.amazonaws.com"]}}, "oidc-no-provider-for-issuer"),
    ],
)
def test_distinguishes_statements(changes: dict[str, Any], id: str) -> None:
    assert errors(gitlab(), policy(gitlab(), equals(LAB), **changes)) == [id]


def test_a_deny_overrides_an_allow() -> None:
    document = policy(gitlab(), equals(LAB))
    document["Statement"] += policy(
        gitlab(), {"StringNotEquals": {":ref_protected": "false"}}, Effect="Deny"
    )["Statement"]
    found = explained(gitlab(), document).findings[0]
    assert (found.id, found.statement) == ("oidc-explicit-deny", 1)
    assert explained(gitlab(ref_protected="false"), document).verdict == "allowed"


def test_of_several_statements_the_nearest_comes_first() -> None:
    document = policy(gitlab("side"), {"StringEquals": {":sub": "x", ":aud": "y"}})
    document["Statement"] += policy(gitlab("side"), equals(LAB))["Statement"]
    assert [finding.statement for finding in explained(gitlab("side"), document).findings][:3] == [
        1,
        0,
        0,
    ]


@pytest.mark.parametrize("tags", [TAGS, FLAT])
def test_session_tags_need_an_action_of_their_own(tags: dict[str, Any]) -> None:
    claims = gitlab(**tags)
    assert errors(claims, policy(claims, equals(LAB))) == ["oidc-tagsession-missing"]
    both = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"]
    assert explained(claims, policy(claims, equals(LAB), Action=both)).verdict == "allowed"
    tagged = {**equals(LAB), "StringEquals": {":sub": LAB, "aws:RequestTag/Project": "dbt"}}
    assert explained(claims, policy(claims, tagged, Action="sts:*")).verdict == "allowed"
    assert explained(gitlab(), policy(claims, tagged, Action="sts:*")).verdict == "denied"


def test_a_deny_of_session_tags_is_not_a_missing_permission() -> None:
    claims = gitlab(**TAGS)
    both = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"]
    document = policy(claims, equals(LAB), Action=both)
    document["Statement"] += policy(claims, {}, Effect="Deny", Action="sts:TagSession")["Statement"]
    assert errors(claims, document) == ["oidc-explicit-deny"]
    document["Statement"][0]["Condition"]["StringEquals"][f"{GITLAB}:sub"] = "x"
    assert "oidc-explicit-deny" in errors(claims, document)
    assert "oidc-tagsession-missing" not in errors(claims, document)


def test_a_source_identity_needs_an_action_of_its_own() -> None:
    claims = gitlab(**{"https://aws.amazon.com/source_identity": "ada"})
    found = explained(claims, policy(claims, equals(LAB)))
    assert found.verdict == "denied"
    assert "sts:SetSourceIdentity" in found.findings[0].fix


@pytest.mark.parametrize(
    "condition",
    [
        {"NumericLessThan": {":project_id": "20"}},
        {"NumericGreaterThanEquals": {":project_id": ["21", "22"]}},
        {"NumericEqualsIfExists": {":project_id": ["21", "22"]}},
        {"Bool": {":ref_protected": "false"}},
        {"StringEqualsIgnoreCase": {":user_login": "A*"}},
        {"stringequals": {":user_login": ["a*", "b"]}},
        {"ForAnyValue:StringLike": {":user_login": ["b*", "c"]}},
        {"ForAllValues:StringEquals": {":user_login": ["Ada", "c"]}},
        {"ForAllValues:StringLike": {":aud": ["x", "y"]}},
        {"StringNotLike": {":user_login": ["a*", "b"]}},
        {"StringNotEqualsIgnoreCase": {":user_login": ["ADA", "b"]}},
        {"NumericNotEquals": {":project_id": ["20.0", "3"]}},
        {"StringNotEquals": {":user_login": ["a*", "ada"]}},
        {"Null": {":user_login": "true"}},
        {"StringEquals": {":user_access_level": "x"}},
    ],
)
def test_the_fix_works_for_any_operator(condition: dict[str, Any]) -> None:
    claims = gitlab(user_access_level="${user}", aud=["https://gitlab.com", "z"])
    document = policy(claims, {**PINNED, **condition})
    found = explained(claims, document)
    assert found.verdict == "denied"
    block = document["Statement"][0]["Condition"]
    del block[next(iter(condition))]
    block |= json.loads("{" + found.findings[0].fix + "}")
    fixed = {**block, "StringEquals": {**PINNED_KEYS, **block.get("StringEquals", {})}}
    document["Statement"][0]["Condition"] = fixed
    assert explained(claims, document).verdict == "allowed"


PINNED_KEYS = {f"{GITLAB}{key}": value for key, value in PINNED["StringEquals"].items()}

ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)
NAMES = [
    "sub",
    "aud",
    "azp",
    "project_id",
    "ref_protected",
    "pipeline_source",
    "event_name",
    *TAGS,
    *FLAT,
]


@given(
    st.dictionaries(
        st.sampled_from([*NAMES, "exp", "nbf", "https://aws.amazon.com/source_identity"]), ANYTHING
    )
)
def test_any_claims_are_explained(claims: dict[str, Any]) -> None:
    whole = {"iss": "https://gitlab.com", **claims}
    found = explained(
        whole, policy(whole, {**PINNED, "StringLike": {":aud": "*"}, "Bool": {":amr": "true"}})
    )
    assert found.verdict == "denied"
    assert all(finding.fix for finding in found.findings)
