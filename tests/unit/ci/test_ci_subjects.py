"""Subjects: parsed, and written for trust policies."""

from typing import Any

import pytest

from cipipe import ci
from cipipe.ci import github, gitlab, local
from cipipe.ci.base import Subject, TokenFacts
from cipipe.model import DeployFrom

MAIN = "repo:acme/dbt:ref:refs/heads/main"
LAB = "project_path:a/b:ref_type:branch:ref:main"
PINNED = "repo:acme@1/dbt@2:ref:refs/heads/main"


def named(
    kind: Any, plain: str, project: str = "", name: str = "", ids: tuple[str, str] | None = None
) -> Subject:
    return Subject(kind=kind, plain=plain, project=project, name=name, ids=ids)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MAIN, named("branch", MAIN, "acme/dbt", "main")),
        (PINNED, named("branch", MAIN, "acme/dbt", "main", ("1", "2"))),
        ("repo:a/b:ref:refs/tags/v1", named("tag", "repo:a/b:ref:refs/tags/v1", "a/b", "v1")),
        ("repo:a/b:pull_request", named("merge-request", "repo:a/b:pull_request", "a/b")),
        (
            "repo:a/b:environment:X%3AY",
            named("environment", "repo:a/b:environment:X%3AY", "a/b", "X:Y"),
        ),
        ("repo:a/b", named("project", "repo:a/b", "a/b")),
        ("repo:a@1/b@2", named("project", "repo:a/b", "a/b", "", ("1", "2"))),
        ("project_path:a/b/c", named("project", "project_path:a/b/c", "a/b/c")),
        *(
            (f"repo:a/b:{context}:{more}", named("custom", f"repo:a/b:{context}:{more}", "a/b"))
            for context in (
                "ref:refs/heads/main",
                "ref:refs/tags/v1",
                "pull_request",
                "environment:live",
            )
            for more in (
                "job_workflow_ref:a/b/.github/workflows/x.yml@refs/heads/main",
                "workflow:Deploy it",
                "actor:ada",
                "environment:live",
                "runner_environment:self-hosted",
                "repository_owner_id:1",
                "repo_property_team:data",
                "event_name:push",
            )
        ),
        (
            "repo:a/b:environment:X:Y",
            named("environment", "repo:a/b:environment:X:Y", "a/b", "X:Y"),
        ),
        (
            f"{LAB}:environment_protected:true",
            named("custom", f"{LAB}:environment_protected:true", "a/b", "main"),
        ),
        ("repository_id:2:ref:x", named("custom", "repository_id:2:ref:x")),
        (
            "project_path:a/b/c:ref_type:tag:ref:v1:2",
            named("tag", "project_path:a/b/c:ref_type:tag:ref:v1:2", "a/b/c", "v1:2"),
        ),
        ("project_id:2:ref_type:tag:ref:v1", named("custom", "project_id:2:ref_type:tag:ref:v1")),
        ("system:serviceaccount:a:b", named("custom", "system:serviceaccount:a:b")),
        ("", named("custom", "")),
    ],
)
def test_parses_subjects(text: str, expected: Subject) -> None:
    assert ci.subject(text) == expected


def test_only_githubs_subjects_have_a_form_with_ids() -> None:
    assert github.pinned_subject(MAIN, ("1", "2")) == PINNED
    assert github.pinned_subject("repository_id:2", ("1", "2")) is None
    assert gitlab.pinned_subject("project_path:a/b:ref_type:branch:ref:main", ("1", "2")) is None


def test_only_githubs_subjects_name_the_environment() -> None:
    assert github.environment_subject("a/b", "Prod:V1 ü%") == "repo:a/b:environment:Prod%3AV1 ü%"
    assert gitlab.environment_subject("a/b", "live") is None
    assert local.environment_subject("a/b", "live") is None


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"pipeline_source": "merge_request_event"}, True),
        ({"pipeline_source": "external_pull_request_event"}, True),
        ({"pipeline_source": "push"}, False),
        ({"event_name": "pull_request"}, True),
        ({"pipeline_source": "parent_pipeline", "ref_path": "refs/merge-requests/7/head"}, True),
        ({"pipeline_source": "parent_pipeline", "ref_path": "refs/heads/main"}, False),
        ({"event_name": "pull_request_target", "ref": "refs/heads/main"}, True),
        ({"event_name": "pull_request_review"}, True),
        ({"event_name": "merge_group"}, True),
        ({"event_name": "workflow_run", "ref": "refs/heads/main"}, False),
        ({"event_name": "other", "head_ref": "side", "base_ref": "main"}, True),
        ({"event_name": "push", "head_ref": "", "base_ref": ""}, False),
        ({"event_name": "push", "ref": "refs/pull/7/merge"}, True),
        ({"event_name": "push", "ref": "refs/heads/gh-readonly-queue/main/pr-7"}, True),
        ({"event_name": "push", "sub": "repo:a@1/b@2:pull_request"}, True),
        ({"event_name": "push", "sub": "repo:a/b:pull_request:workflow:x"}, True),
        ({"event_name": "push", "sub": "repo:a/b:environment:pull_request"}, False),
        ({"event_name": "push"}, False),
        ({"event_name": 1}, False),
        ({}, False),
    ],
)
def test_recognises_merge_requests_by_their_claims(
    claims: dict[str, object], expected: bool
) -> None:
    assert ci.unmerged(claims) is expected


def test_a_shell_has_no_subjects() -> None:
    assert local.subject(MAIN) is None
    assert local.pinned_subject(MAIN, ("1", "2")) is None
    assert not local.unmerged({"event_name": "pull_request"})


def facts(**given: object) -> TokenFacts:
    usual = {
        "project": None,
        "ref": None,
        "ref_type": None,
        "merge_request": False,
        "protected": None,
    }
    return TokenFacts(**{**usual, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        (
            {"project_path": "a/b", "ref": "main", "ref_type": "branch", "ref_protected": "true"},
            facts(provider="gitlab", project="a/b", ref="main", ref_type="branch", protected=True),
        ),
        (
            {"pipeline_source": "merge_request_event", "ref": "main", "ref_protected": False},
            facts(provider="gitlab", ref="main", merge_request=True, protected=False),
        ),
        (
            {"repository": "a/b", "ref": "refs/tags/main", "ref_type": "branch"},
            facts(provider="github", project="a/b", ref="main", ref_type="tag"),
        ),
        (
            {"repository": "a/b", "ref": "refs/pull/7/merge", "ref_type": "branch"},
            facts(
                provider="github",
                project="a/b",
                ref="refs/pull/7/merge",
                ref_type="branch",
                merge_request=True,
            ),
        ),
        ({"event_name": "push", "ref": 7}, facts(provider="github")),
        ({"sub": "system:serviceaccount:a:b"}, None),
    ],
)
def test_what_claims_say_of_a_job(claims: dict[str, object], expected: TokenFacts | None) -> None:
    assert ci.token_facts(claims) == expected


COMPONENTS = ("project_path", "ref_type", "ref", "environment_protected")
REFS = DeployFrom(branches=("main",), tags=("v*",))
MAIN_ONLY = DeployFrom(branches=("main",))


def test_subjects_of_other_components() -> None:
    made = gitlab.component_subjects("a/b", COMPONENTS, None, REFS)
    assert made == (
        [
            f"{LAB}:environment_protected:true",
            "project_path:a/b:ref_type:tag:ref:v*:environment_protected:true",
        ],
        ["project_path:a/b:*"],
    )
    by_id = gitlab.component_subjects("a/b", ("project_id", "ref_type", "ref"), "17", MAIN_ONLY)
    assert by_id == (["project_id:17:ref_type:branch:ref:main"], ["project_id:17:*"])


@pytest.mark.parametrize(
    "components",
    [
        ("project_id", "ref_type", "ref"),
        ("ref", "ref_type"),
        ("project_path", "ref"),
        ("project_path", "ref_type", "ref", "deployment_tier"),
    ],
)
def test_refuses_components_without_a_usable_subject(components: tuple[str, ...]) -> None:
    assert gitlab.component_subjects("a/b", components, None, MAIN_ONLY) is None
    assert github.component_subjects("a/b", components, "17", MAIN_ONLY) is None
