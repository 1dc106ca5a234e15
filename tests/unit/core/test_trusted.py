"""Whose tokens a project's roles trust: subjects in both forms, claims that keep merge requests
out, what is doubted.
"""

from typing import Any

import pytest

from cipipe.config import OidcSettings
from cipipe.errors import UsageError
from cipipe.model import DeployFrom
from cipipe.pipeline.trust.subjects import Trust, TrustedProject, ids_of, trust

HUB, LAB, OWN = "token.actions.githubusercontent.com", "gitlab.com", "gitlab.example.com"
MAIN = "repo:acme/bugs:ref:refs/heads/main"


def of(
    provider: str,
    issuer: str,
    ids: tuple[str, str] | None = None,
    *,
    job_environment: str | None = None,
    **settings: Any,
) -> Trust:
    project = TrustedProject(
        provider=provider,
        issuer=issuer,
        path="acme/bugs",
        settings=OidcSettings(**settings),
        ids=ids,
    )
    refs = DeployFrom(branches=("main",), tags=("v*",))
    return trust(project, refs, job_environment=job_environment)


def test_gitlab_com_deploys_from_protected_refs_and_verifies_from_all() -> None:
    found = of("gitlab", LAB)
    assert found.deploy_claims["ref_protected"] == ["true"]
    sources = found.deploy_claims["pipeline_source"]
    assert {"push", "web", "schedule", "api", "trigger", "parent_pipeline"} <= set(sources)
    assert not {"merge_request_event", "external_pull_request_event"} & set(sources)
    assert (found.claims, found.doubts, found.ids) == ({}, [], None)


@pytest.mark.parametrize(("issuer", "settings"), [(OWN, {}), (LAB, {"protected_refs": False})])
def test_what_aws_does_not_see_or_nobody_wants_is_no_condition(
    issuer: str, settings: dict[str, Any]
) -> None:
    assert of("gitlab", issuer, **settings).deploy_claims == {}


def test_subjects_of_a_gitlab_project_with_components_of_its_own() -> None:
    found = of(
        "gitlab",
        OWN,
        subject_components=("project_path", "ref_type", "ref", "environment_protected"),
    )
    assert found.deploy_subjects == [
        "project_path:acme/bugs:ref_type:branch:ref:main:environment_protected:true",
        "project_path:acme/bugs:ref_type:tag:ref:v*:environment_protected:true",
    ]
    assert found.verify_subjects == ["project_path:acme/bugs:*"]


def test_names_alone_are_doubted_where_github_has_another_form() -> None:
    found = of("github", HUB)
    assert found.deploy_subjects == [MAIN, "repo:acme/bugs:ref:refs/tags/v*"]
    assert len(found.doubts) == 1
    assert "owner_id and project_id" in found.doubts[0]
    assert of("github", "github.example.com/_services/token").doubts == []


def test_both_forms_where_the_ids_are_known() -> None:
    found = of("github", HUB, ("12", "34"), immutable_subjects=True)
    assert found.deploy_subjects == [
        MAIN,
        "repo:acme/bugs:ref:refs/tags/v*",
        "repo:acme@12/bugs@34:ref:refs/heads/main",
        "repo:acme@12/bugs@34:ref:refs/tags/v*",
    ]
    assert "repo:acme@12/bugs@34:pull_request" in found.verify_subjects
    assert (found.claims, found.doubts) == ({}, [])


def test_any_ids_come_with_the_repository() -> None:
    found = of("github", HUB, immutable_subjects=True)
    assert found.deploy_subjects[2] == "repo:acme@*/bugs@*:ref:refs/heads/main"
    assert found.claims == {"repository": ["acme/bugs"]}
    assert found.doubts == []


DEPLOY, DESTROY = ".github/workflows/deploy.yml", ".github/workflows/destroy.yaml"


def test_workflows_at_the_refs_that_deploy() -> None:
    found = of("github", HUB, workflows=(DEPLOY, DESTROY))
    assert found.deploy_claims["job_workflow_ref"] == [
        f"acme/bugs/{DEPLOY}@refs/heads/main",
        f"acme/bugs/{DEPLOY}@refs/tags/v*",
        f"acme/bugs/{DESTROY}@refs/heads/main",
        f"acme/bugs/{DESTROY}@refs/tags/v*",
    ]
    assert found.claims == {}, "the verify role is for every workflow"


@pytest.mark.parametrize(
    ("provider", "issuer", "file"),
    [
        ("gitlab", LAB, DEPLOY),
        ("github", "github.example.com", DEPLOY),
        ("github", HUB, "*"),
        ("github", HUB, "deploy.yml"),
    ],
)
def test_workflows_that_cannot_be_asked_for(provider: str, issuer: str, file: str) -> None:
    with pytest.raises(UsageError) as refused:
        of(provider, issuer, workflows=(file,))
    assert (refused.value.id, refused.value.where) == (
        "config-bad-oidc",
        f"oidc.{provider}.workflows",
    )


LIVE = "repo:acme/bugs:environment:li%3Ave"


def test_jobs_of_an_environment_deploy_from_the_refs_only() -> None:
    found = of("github", HUB, ("12", "34"), job_environment="li:ve")
    assert found.deploy_subjects == [LIVE, "repo:acme@12/bugs@34:environment:li%3Ave"]
    assert found.deploy_claims == {"ref": ["refs/heads/main", "refs/tags/v*"]}
    # A job that deploys may read, too, and a pull request as before.
    assert {LIVE, "repo:acme/bugs:pull_request"} <= set(found.verify_subjects)
    assert found.claims == {}
    assert found.doubts == []


def test_an_environment_of_a_server_that_hides_the_ref_is_doubted() -> None:
    found = of("github", "github.example.com/_services/token", job_environment="li:ve")
    assert found.deploy_subjects == [LIVE]
    assert found.deploy_claims == {}
    assert len(found.doubts) == 1
    assert "limit its branches and tags" in found.doubts[0]


def test_subjects_without_an_environment_stay() -> None:
    assert of("gitlab", LAB, job_environment="live") == of("gitlab", LAB)


def test_an_environment_deploys_from_no_refs() -> None:
    project = TrustedProject(provider="github", issuer=HUB, path="acme/bugs")
    assert trust(project, DeployFrom(), job_environment="live").deploy_subjects == []


def test_a_server_of_its_own_has_no_form_with_ids() -> None:
    found = of("github", "github.example.com/_services/token", immutable_subjects=True)
    assert (found.ids, found.claims) == (None, {})


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"owner_id": "12", "project_id": "x"}, "oidc.github.project_id"),
        ({"owner_id": "*", "project_id": "12"}, "oidc.github.owner_id"),
    ],
)
def test_ids_are_numbers(settings: dict[str, Any], where: str) -> None:
    with pytest.raises(UsageError) as refused:
        ids_of(OidcSettings(**settings), "oidc.github")
    assert (refused.value.id, refused.value.where) == ("config-bad-oidc", where)


def test_one_id_alone_says_nothing() -> None:
    assert ids_of(OidcSettings(owner_id="12"), "oidc.github") is None
    assert ids_of(OidcSettings(owner_id="12", project_id="34"), "oidc.github") == ("12", "34")


@pytest.mark.parametrize("provider", ["github", "gitlab"])
def test_components_of_which_nothing_can_be_made(provider: str) -> None:
    with pytest.raises(UsageError) as refused:
        of(provider, HUB if provider == "github" else LAB, subject_components=("repo", "context"))
    assert refused.value.id == "config-bad-oidc"
