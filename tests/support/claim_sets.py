"""Claim sets of jobs as the providers document them; names and numbers are made up.

https://docs.gitlab.com/ci/secrets/id_token_authentication/#token-payload
https://docs.github.com/actions/reference/security/oidc#oidc-token-claims
"""

from typing import Any

from cipipe.oidc.claims import TokenClaims
from cipipe.oidc.examine import Explanation, examine, request_of

GITLAB = "gitlab.com"
GITHUB = "token.actions.githubusercontent.com"
ACCOUNT = "arn:aws:iam::111111111111:oidc-provider/"


def gitlab(
    ref: str = "main", ref_type: str = "branch", *, host: str = GITLAB, **changes: Any
) -> dict[str, Any]:
    project = changes.get("project_path", "acme/data/dbt")
    return {
        "iss": f"https://{host}",
        "sub": f"project_path:{project}:ref_type:{ref_type}:ref:{ref}",
        "aud": f"https://{host}",
        "namespace_id": "72",
        "namespace_path": "acme/data",
        "project_id": "20",
        "project_path": project,
        "user_id": "1",
        "user_login": "ada",
        "user_email": "ada@example.com",
        "user_access_level": "maintainer",
        "pipeline_id": "574",
        "pipeline_source": "push",
        "job_id": "302",
        "ref": ref,
        "ref_type": ref_type,
        "ref_path": f"refs/{'heads' if ref_type == 'branch' else 'tags'}/{ref}",
        "ref_protected": "true",
        "runner_environment": "gitlab-hosted",
        **changes,
    }


def github(
    subject: str = "ref:refs/heads/main", *, host: str = GITHUB, **changes: Any
) -> dict[str, Any]:
    repository = changes.get("repository", "acme/dbt")
    return {
        "iss": f"https://{host}",
        "sub": f"repo:{repository}:{subject}",
        "aud": "sts.amazonaws.com",
        "actor": "ada",
        "actor_id": "12",
        "event_name": "push",
        "job_workflow_ref": f"{repository}/.github/workflows/deploy.yml@refs/heads/main",
        "ref": "refs/heads/main",
        "ref_type": "branch",
        "repository": repository,
        "repository_id": "456",
        "repository_owner": repository.partition("/")[0],
        "repository_owner_id": "123",
        "runner_environment": "github-hosted",
        "workflow": "deploy",
        **changes,
    }


def policy(claims: dict[str, Any], condition: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A policy of one statement that trusts the issuer of these claims; `:sub` stands for
    `ISSUER:sub`.
    """
    issuer = claims["iss"].removeprefix("https://")
    keys = {
        operator: {
            f"{issuer}{key}" if key.startswith(":") else key: value for key, value in block.items()
        }
        for operator, block in condition.items()
    }
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": f"{ACCOUNT}{issuer}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": keys,
        **changes,
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def explained(claims: dict[str, Any], document: dict[str, Any], **arns: str) -> Explanation:
    """What `cipipe oidc explain` finds, without the token's times."""
    request, problems = request_of(
        TokenClaims({}, claims), document, provider=arns.get("provider"), role=arns.get("role")
    )
    return examine(document, request, problems)


# --- conditions and verdicts that several test modules need --------------------------------------

MAIN = "repo:acme/dbt:ref:refs/heads/main"
LAB = "project_path:acme/data/dbt:ref_type:branch:ref:main"
IDS = {"sub": "repo:acme@123/dbt@456:ref:refs/heads/main"}
PINNED = {"StringEquals": {":sub": LAB, ":project_id": "20", ":ref_protected": "true"}}
TAGS: dict[str, Any] = {
    "https://aws.amazon.com/tags": {
        "principal_tags": {"Project": ["dbt"]},
        "transitive_tag_keys": ["Project"],
    }
}
FLAT = {"https://aws.amazon.com/tags/principal_tags/Project": "dbt"}


def equals(*subjects: str) -> dict[str, Any]:
    return {"StringEquals": {":sub": subjects[0] if len(subjects) == 1 else list(subjects)}}


def like(*subjects: str) -> dict[str, Any]:
    return {"StringLike": {":sub": list(subjects)}}


def errors(claims: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """The ids of the reasons why a policy denies a token."""
    found = explained(claims, document)
    assert found.verdict == "denied"
    return [finding.id for finding in found.findings if finding.severity == "error"]


def warnings(claims: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """The ids of the warnings about a policy that allows a token."""
    found = explained(claims, document)
    assert found.verdict == "allowed"
    return [finding.id for finding in found.findings if finding.severity == "warning"]
