"""Findings about merge requests: tokens that a policy accepts, policies that do not distinguish
them, fixes that are safe.
"""

from typing import Any

import pytest

from support.claim_sets import GITHUB, explained, github, gitlab, policy

LAB = "project_path:acme/data/dbt:ref_type:branch:ref:main"
MAIN = "repo:acme/dbt:ref:refs/heads/main"
FORK = {"pipeline_source": "merge_request_event", "ref_protected": "false"}
CHILD = {"pipeline_source": "parent_pipeline", "ref_protected": "false"}
OWN = "gitlab.example.com"


def found(claims: dict[str, Any], condition: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The verdict, and the findings by their ids."""
    explanation = explained(claims, policy(claims, condition))
    return explanation.verdict, {finding.id: finding for finding in explanation.findings}


@pytest.mark.parametrize(
    ("claims", "condition"),
    [
        (gitlab(**FORK), {"StringEquals": {":sub": LAB}}),
        (gitlab(host=OWN, **FORK), {"StringEquals": {":sub": LAB}}),
        (gitlab("side", **FORK), {"StringLike": {":sub": "project_path:acme/data/dbt:*"}}),
        (
            github("pull_request", event_name="pull_request"),
            {"StringEquals": {":sub": "repo:acme/dbt:pull_request"}},
        ),
        (
            github(event_name="pull_request_target", head_ref="side"),
            {"StringEquals": {":sub": MAIN}},
        ),
        (
            github("environment:live", event_name="pull_request", ref="refs/pull/7/merge"),
            {"StringEquals": {":sub": "repo:acme/dbt:environment:live"}},
        ),
        (
            github("ref:refs/heads/gh-readonly-queue/main/pr-7", event_name="merge_group"),
            {"StringLike": {":sub": "repo:acme/dbt:ref:refs/heads/*"}},
        ),
    ],
)
def test_warns_if_a_merge_requests_token_is_accepted(
    claims: dict[str, Any], condition: dict[str, Any]
) -> None:
    verdict, findings = found(claims, condition)
    assert verdict == "allowed"
    assert findings["oidc-merge-request-allowed"].severity == "warning"


@pytest.mark.parametrize("source", ["push", "schedule", "parent_pipeline"])
def test_does_not_warn_about_other_tokens(source: str) -> None:
    guarded = {"StringEquals": {":sub": LAB, ":ref_protected": "true", ":project_id": "20"}}
    assert found(gitlab(pipeline_source=source), guarded) == ("allowed", {})


@pytest.mark.parametrize(
    "guard",
    [
        {"StringEquals": {":ref_protected": "true"}},
        {"Bool": {":ref_protected": "true"}},
        {"StringNotEquals": {":ref_protected": "false"}, "Null": {":ref_protected": "false"}},
        {"StringLike": {":ref_protected": "tru?"}},
        {"StringEquals": {":pipeline_source": ["push", "schedule"]}},
        {"ForAnyValue:StringEquals": {":ref_protected": "true"}},
    ],
)
def test_guards(guard: dict[str, Any]) -> None:
    subject = {"StringLike" if "StringEquals" in guard else "StringEquals": {":sub": LAB}}
    block = {name: {**subject.get(name, {}), **guard.get(name, {})} for name in {*subject, *guard}}
    verdict, findings = found(gitlab(), block)
    assert verdict == "allowed"
    assert "oidc-merge-request-indistinct" not in findings
    assert found(gitlab(**FORK), block)[0] == "denied"


@pytest.mark.parametrize(
    "guard",
    [
        {},
        {"BoolIfExists": {":ref_protected": "true"}},
        {"StringLike": {":ref_protected": "*"}},
        {"StringEquals": {":ref_protected": ["true", "false"]}},
        {"Null": {":ref_protected": "false"}},
        {"StringEquals": {":pipeline_source": ["push", "parent_pipeline"]}},
        {"StringEquals": {":pipeline_source": ["push", "merge_request_event"]}},
        {"StringEquals": {":user_login": "ada"}},
    ],
)
def test_no_guards(guard: dict[str, Any]) -> None:
    _, findings = found(gitlab(), {"ForAnyValue:StringEquals": {":sub": LAB}, **guard})
    assert '"gitlab.com:ref_protected": "true"' in findings["oidc-merge-request-indistinct"].fix


def test_the_fix_for_a_gitlab_server() -> None:
    _, findings = found(gitlab(host=OWN), {"StringEquals": {":sub": LAB}})
    assert f"{LAB}:environment_protected:true" in findings["oidc-merge-request-indistinct"].fix
    assert (
        "AWS sees no claim of gitlab.example.com"
        in findings["oidc-merge-request-indistinct"].message
    )


@pytest.mark.parametrize(
    "condition",
    [
        {"StringEquals": {":ref_protected": "true"}},
        {"StringEqualsIgnoreCase": {":ref_protected": "TRUE"}},
        {"Bool": {":ref_protected": "true"}},
        {"StringLike": {":ref_protected": "tr*"}},
        {"StringNotEquals": {":ref_protected": "false"}},
        {"ForAnyValue:StringEquals": {":ref_protected": "true"}},
        {"StringEqualsIfExists": {":ref_protected": "true"}},
    ],
)
@pytest.mark.parametrize("more", [{}, FORK, CHILD])
def test_no_fix_trusts_a_ref_that_is_not_protected(
    condition: dict[str, Any], more: dict[str, str]
) -> None:
    claims = gitlab(**{"ref_protected": "false", **more})
    verdict, findings = found(claims, {"ForAnyValue:StringLike": {":sub": LAB}, **condition})
    assert verdict == "denied"
    fix = findings["oidc-claim-mismatch"].fix
    assert "ref_protected" not in fix
    assert ("protect the branch main" in fix) is (more is not FORK)
    assert ("after the merge" in fix) is (more is FORK)


def test_nor_does_the_fix_of_a_deny() -> None:
    claims = gitlab(ref_protected="false")
    document = policy(claims, {"StringEquals": {":sub": LAB}})
    document["Statement"] += policy(
        claims, {"StringNotEquals": {":ref_protected": "true"}}, Effect="Deny"
    )["Statement"]
    (first, *_) = explained(claims, document).findings
    assert (first.id, first.fix.startswith("protect the branch main")) == (
        "oidc-explicit-deny",
        True,
    )


def test_nor_where_aws_sees_no_such_claim() -> None:
    condition = {"StringEquals": {":sub": LAB, ":ref_protected": "true"}}
    verdict, findings = found(gitlab(host=OWN), condition)
    assert verdict == "denied"
    assert "environment_protected:true" in findings["oidc-claim-not-visible"].fix


def test_no_fix_trusts_the_source_of_a_merge_request() -> None:
    condition = {"StringEquals": {":sub": LAB, ":pipeline_source": ["push", "web"]}}
    _, findings = found(gitlab(**FORK), condition)
    assert "merge_request_event" not in findings["oidc-claim-mismatch"].fix


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {":repository": "acme/dbt", ":environment": "live"},
            "every ref and pull request of the project whose job",
        ),
        ({":repository": "acme/dbt"}, "every ref, pull request and environment of the project"),
        (
            {":repository": "acme/dbt", ":ref": "refs/pull/7/merge"},
            "every ref, pull request and environment",
        ),
        ({":repository_owner_id": "123"}, "all projects that have this repository_owner_id"),
        ({":ref": "refs/heads/main"}, f"any project on {GITHUB} whose token has this ref"),
        ({":environment": "live", ":actor": "ada"}, "whose token has this actor and environment"),
        (
            {":job_workflow_ref": "acme/ci/.github/workflows/x.yml@refs/heads/main"},
            "whichever repository calls this",
        ),
        ({":aud": "sts.amazonaws.com"}, f"every project on {GITHUB}"),
    ],
)
def test_who_can_assume_a_role_without_a_subject(keys: dict[str, str], words: str) -> None:
    claims = github(
        "environment:live", **{key[1:]: value for key, value in keys.items() if key != ":aud"}
    )
    _, findings = found(claims, {"StringEquals": keys})
    message = findings["oidc-missing-subject"].message
    assert words in message
    assert ("every project" in message) is (keys.keys() == {":aud"})


@pytest.mark.parametrize(
    "condition",
    [
        {"StringEquals": {":repository": "acme/dbt", ":ref": "refs/heads/main"}},
        {"StringEquals": {":repository_id": "456"}, "StringLike": {":ref": "refs/tags/v*"}},
        {
            "StringEquals": {
                ":repository": "acme/dbt",
                ":ref": "refs/heads/main",
                ":environment": "live",
            }
        },
    ],
)
def test_a_project_and_its_ref_need_no_subject(condition: dict[str, Any]) -> None:
    claims = github("environment:live", environment="live")
    assert "oidc-missing-subject" not in found(claims, condition)[1]


def test_a_wildcard_is_no_restriction() -> None:
    _, findings = found(github(), {"StringLike": {":repository": "*", ":ref": "*"}})
    assert "every project" in findings["oidc-missing-subject"].message
    _, findings = found(github(), {"StringLike": {":repository": "acme/*"}})
    assert "all projects that have this repository" in findings["oidc-missing-subject"].message


def test_a_pattern_for_refs_may_match_pull_requests() -> None:
    condition = {"StringEquals": {":repository_id": "456"}, "StringLike": {":ref": "refs/*"}}
    assert (
        "every ref, pull request" in found(github(), condition)[1]["oidc-missing-subject"].message
    )


@pytest.mark.parametrize(
    "operator", ["StringEqualsIfExists", "ForAllValues:StringLike", "StringLikeIfExists"]
)
def test_claims_that_every_token_has_restrict_with_any_operator(operator: str) -> None:
    _, findings = found(github(), {operator: {":repository": "acme/dbt"}})
    assert "every ref, pull request and environment" in findings["oidc-missing-subject"].message
    _, findings = found(
        github(), {operator: {":repository": "acme/dbt", ":ref": "refs/heads/main"}}
    )
    assert "oidc-missing-subject" not in findings
    _, findings = found(github(), {operator: {":environment": "live"}})
    assert f"every project on {GITHUB}" in findings["oidc-missing-subject"].message, (
        "most tokens have none"
    )


@pytest.mark.parametrize(
    ("protected", "fix"),
    [("false", "protect the branch main"), ("true", '"gitlab.com:ref_protected": "true"')],
)
def test_child_pipelines_are_trusted_with_protected_refs_only(protected: str, fix: str) -> None:
    condition = {"StringEquals": {":sub": LAB, ":pipeline_source": ["push", "web"]}}
    claims = gitlab(pipeline_source="parent_pipeline", ref_protected=protected)
    _, findings = found(claims, condition)
    assert fix in findings["oidc-claim-mismatch"].fix


def test_gitlab_claims_that_name_a_project() -> None:
    _, findings = found(gitlab(), {"StringEquals": {":project_id": "20"}})
    assert "every project" not in findings["oidc-missing-subject"].message
    _, findings = found(gitlab(), {"StringEquals": {":project_path": "acme/data/dbt"}})
    assert "every project" not in findings["oidc-missing-subject"].message


@pytest.mark.parametrize(
    ("claims", "subject", "id", "words"),
    [
        (github(), "repo:acme/dbt", "oidc-subject-mismatch", "names the project only"),
        (gitlab(), "project_path:acme/data/dbt", "oidc-subject-mismatch", "names the project only"),
        (
            github(sub="repo:acme/dbt"),
            MAIN,
            "oidc-subject-mismatch",
            "the token's subject names the project only",
        ),
        (github(), "repo:acme/other", "oidc-subject-mismatch", "the role trusts acme/other"),
        (
            github(sub="repo:acme/dbt"),
            "repo:acme/other",
            "oidc-subject-mismatch",
            "the role trusts acme/other",
        ),
        (
            github(sub="repo:acme/x"),
            MAIN,
            "oidc-subject-mismatch",
            "the token is for the project acme/x",
        ),
        (
            github(),
            "repo:acme/dbt:ref:main",
            "oidc-subject-mismatch",
            "does not spell the branch as the provider",
        ),
        (
            github(sub="repo:acme@1/dbt@2:ref:refs/heads/main"),
            "repo:acme@1/dbt@3:ref:refs/heads/main",
            "oidc-subject-mismatch",
            "the ids 1 and 2, the role trusts 1 and 3",
        ),
        (github(sub=f"{MAIN}:actor:ada"), MAIN, "oidc-subject-custom", "customised"),
        (github(), f"{MAIN}:runner_environment:github-hosted", "oidc-subject-custom", "customised"),
        (
            github("pull_request:job_workflow_ref:x", event_name="pull_request"),
            MAIN,
            "oidc-subject-pull-request",
            "not merged",
        ),
        (
            github("pull_request", event_name="pull_request"),
            "repo:acme/dbt",
            "oidc-subject-pull-request",
            "not merged",
        ),
        (
            github(sub="repo:acme@1/dbt@2:pull_request"),
            MAIN,
            "oidc-subject-pull-request",
            "not merged",
        ),
    ],
)
def test_subjects_with_a_common_prefix(
    claims: dict[str, Any], subject: str, id: str, words: str
) -> None:
    verdict, findings = found(claims, {"StringEquals": {":sub": subject}})
    assert verdict == "denied"
    assert words in findings[id].message


def test_a_customised_subject_beside_a_pattern() -> None:
    claims = github(sub=f"{MAIN}:workflow:deploy")
    verdict, findings = found(
        claims, {"StringLike": {":sub": "repo:acme/dbt:ref:refs/heads/rel-*"}}
    )
    assert (verdict, "customised" in findings["oidc-subject-custom"].message) == ("denied", True)


def test_a_subject_that_names_only_the_project_is_too_wide() -> None:
    bare = "repo:acme/dbt"
    verdict, findings = found(github(sub=bare), {"StringEquals": {":sub": bare}})
    assert verdict == "allowed"
    assert "every branch, tag, environment and merge" in findings["oidc-subject-too-wide"].message
    assert "oidc-subject-too-wide" not in found(github(), {"StringEquals": {":sub": bare}})[1]


def test_any_ids_are_safe_with_the_repository() -> None:
    pattern = "repo:acme@*/dbt@*:ref:refs/heads/main"
    claims = github(sub="repo:acme@123/dbt@456:ref:refs/heads/main")
    assert "oidc-subject-too-wide" in found(claims, {"StringLike": {":sub": pattern}})[1]
    both = {"StringLike": {":sub": pattern}, "StringEquals": {":repository": "acme/dbt"}}
    verdict, findings = found(claims, both)
    assert (verdict, set(findings)) == ("allowed", {"oidc-mutable-name"})
    elsewhere = github(
        sub="repo:acme@1/x@2:environment:a/dbt@3:ref:refs/heads/main", repository="acme/x"
    )
    assert found(elsewhere, {"StringLike": {":sub": pattern}})[0] == "allowed"
    assert found(elsewhere, both)[0] == "denied"
    wide = {
        "StringLike": {":sub": "repo:acme@*/dbt@*:*"},
        "StringEquals": {":repository": "acme/dbt"},
    }
    assert "oidc-subject-too-wide" in found(claims, wide)[1]
