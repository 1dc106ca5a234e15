"""Subjects taken apart, and put together again for trust policies."""

import pytest

from cipipe import ci
from cipipe.ci import github, gitlab, local
from cipipe.ci.base import Subject

MAIN = "repo:acme/dbt:ref:refs/heads/main"
PINNED = "repo:acme@1/dbt@2:ref:refs/heads/main"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MAIN, Subject("branch", MAIN, "acme/dbt", "main")),
        (PINNED, Subject("branch", MAIN, "acme/dbt", "main", ("1", "2"))),
        ("repo:a/b:ref:refs/tags/v1", Subject("tag", "repo:a/b:ref:refs/tags/v1", "a/b", "v1")),
        ("repo:a/b:pull_request", Subject("merge-request", "repo:a/b:pull_request", "a/b")),
        ("repo:a/b:environment:X%3AY", Subject("environment", "repo:a/b:environment:X%3AY", "a/b", "X:Y")),
        ("repository_id:2:ref:x", Subject("custom", "repository_id:2:ref:x")),
        (
            "project_path:a/b/c:ref_type:tag:ref:v1:2",
            Subject("tag", "project_path:a/b/c:ref_type:tag:ref:v1:2", "a/b/c", "v1:2"),
        ),
        ("project_id:2:ref_type:tag:ref:v1", Subject("custom", "project_id:2:ref_type:tag:ref:v1")),
        ("system:serviceaccount:a:b", Subject("custom", "system:serviceaccount:a:b")),
        ("", Subject("custom", "")),
    ],
)
def test_takes_subjects_apart(text: str, expected: Subject) -> None:
    assert ci.subject(text) == expected


def test_puts_ids_into_githubs_subjects_only() -> None:
    assert github.pinned_subject(MAIN, ("1", "2")) == PINNED
    assert github.pinned_subject("repository_id:2", ("1", "2")) is None
    assert gitlab.pinned_subject("project_path:a/b:ref_type:branch:ref:main", ("1", "2")) is None


def test_only_githubs_subjects_say_the_environment() -> None:
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
        ({"event_name": "push"}, False),
        ({"event_name": 1}, False),
        ({}, False),
    ],
)
def test_tells_merge_requests_by_their_claims(claims: dict[str, object], expected: bool) -> None:
    assert ci.unmerged(claims) is expected


def test_a_shell_has_no_subjects() -> None:
    assert local.subject(MAIN) is None
    assert local.pinned_subject(MAIN, ("1", "2")) is None
    assert not local.unmerged({"event_name": "pull_request"})
