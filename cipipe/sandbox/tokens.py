"""The claims of ID tokens as GitLab.com and GitHub issue them. Numbers and
names are derived from the project's path.

https://docs.gitlab.com/ci/secrets/id_token_authentication/#token-payload
https://docs.github.com/actions/reference/security/oidc#oidc-token-claims
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

GITLAB = "https://gitlab.com"
GITHUB = "https://token.actions.githubusercontent.com"

# Flavour → the issuer that the sandbox plays.
ISSUERS: Mapping[str, str] = {"gitlab": GITLAB, "github": GITHUB}

_MERGE_EVENTS = {"merge-request", "merge_request_event", "external_pull_request_event"}


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token to mint."""

    project: str
    ref: str
    audience: str

    # A key of ISSUERS.
    flavour: str = "gitlab"

    # `branch` or `tag`.
    ref_type: str = "branch"

    # `push`, `merge-request`, `schedule`, `manual`, or another one in the
    # provider's own words.
    event: str = "push"

    # Seconds; a negative number makes a token that has expired.
    ttl: int = 3600
    environment: str | None = None
    sha: str = "0" * 40
    actor: str = "developer"

    # Its number, for events of merge requests.
    merge_request: int = 1

    # Claims to replace or, with None, to remove.
    claims: dict[str, Any] = {}

    # `none` leaves the token unsigned.
    alg: str = "RS256"

    # `other` signs with a key that the issuer does not publish, under the
    # published key's id.
    key: str = "published"


def payload(request: TokenRequest) -> dict[str, Any]:
    """The complete claims for a request. Raises ValueError for an unknown flavour."""
    if request.flavour not in ISSUERS:
        message = f"no issuer of the flavour {request.flavour!r}; there are {', '.join(ISSUERS)}"
        raise ValueError(message)

    # An expired token was issued before it expired.
    now = int(time.time())
    issued = now if request.ttl > 0 else now + request.ttl - 60
    standard = {
        "jti": str(uuid.uuid4()),
        "iss": ISSUERS[request.flavour],
        "aud": request.audience,
        "iat": issued,
        "nbf": issued - 5,
        "exp": now + request.ttl,
    }
    claims = {**standard, **_CLAIMS[request.flavour](request), **request.claims}
    return {name: value for name, value in claims.items() if value is not None}


def _gitlab(request: TokenRequest) -> dict[str, Any]:
    namespace = request.project.rpartition("/")[0]
    sources = {"merge-request": "merge_request_event", "manual": "web"}
    merge = request.event in _MERGE_EVENTS

    # The subject names the source branch, also for a merge request; only
    # `ref_path` differs.
    branch_path = f"refs/{_kind(request)}/{request.ref}"
    ref_path = f"refs/merge-requests/{request.merge_request}/head" if merge else branch_path
    deployment = {
        "environment": request.environment,
        "environment_protected": "false",
        "deployment_tier": "development",
        "environment_action": "start",
    }
    return {
        "sub": f"project_path:{request.project}:ref_type:{request.ref_type}:ref:{request.ref}",
        "namespace_id": str(_number(namespace)),
        "namespace_path": namespace,
        "project_id": str(_number(request.project)),
        "project_path": request.project,
        "user_id": str(_number(request.actor)),
        "user_login": request.actor,
        "user_email": f"{request.actor}@example.com",
        "user_access_level": "maintainer",
        "pipeline_id": str(_number(f"{request.project} pipeline")),
        "pipeline_source": sources.get(request.event, request.event),
        "job_id": str(_number(f"{request.project} job")),
        "ref": request.ref,
        "ref_type": request.ref_type,
        "ref_path": ref_path,
        "ref_protected": "false" if merge else "true",
        "groups_direct": [namespace],
        **(deployment if request.environment else {}),
        "runner_id": 1,
        "runner_environment": "gitlab-hosted",
        "sha": request.sha,
        "project_visibility": "private",
        "ci_config_ref_uri": f"gitlab.com/{request.project}//.gitlab-ci.yml@{branch_path}",
        "ci_config_sha": request.sha,
    }


def _github(request: TokenRequest) -> dict[str, Any]:
    owner = request.project.partition("/")[0]
    events = {"merge-request": "pull_request", "manual": "workflow_dispatch"}
    merge = request.event in {"merge-request", "pull_request"}

    # `pull_request_target` belongs to a pull request too, but runs on the
    # base branch and has its subject.
    of_request = merge or request.event == "pull_request_target"
    head = ""
    if of_request:
        head = request.ref if merge else "feature"

    ref = f"refs/{_kind(request)}/{request.ref}"
    if merge:
        ref = f"refs/pull/{request.merge_request}/merge"
    subject = "pull_request" if merge else f"ref:{ref}"
    if request.environment:
        subject = f"environment:{request.environment.replace(':', '%3A')}"

    workflow = f"{request.project}/.github/workflows/deploy.yml@{ref}"
    return {
        "sub": f"repo:{request.project}:{subject}",
        "actor": request.actor,
        "actor_id": str(_number(request.actor)),
        "base_ref": "main" if of_request else "",
        "check_run_id": str(_number(f"{request.project} check")),
        "environment": request.environment,
        "event_name": events.get(request.event, request.event),
        "head_ref": head,
        "job_workflow_ref": workflow,
        "job_workflow_sha": request.sha,
        "ref": ref,
        "ref_protected": "false" if merge else "true",
        "ref_type": "branch" if merge else request.ref_type,
        "repository": request.project,
        "repository_id": str(_number(request.project)),
        "repository_owner": owner,
        "repository_owner_id": str(_number(owner)),
        "repository_visibility": "private",
        "run_attempt": "1",
        "run_id": str(_number(f"{request.project} run")),
        "run_number": "1",
        "runner_environment": "github-hosted",
        "sha": request.sha,
        "workflow": "deploy",
        "workflow_ref": workflow,
        "workflow_sha": request.sha,
    }


def _kind(request: TokenRequest) -> str:
    return "tags" if request.ref_type == "tag" else "heads"


def _number(text: str) -> int:
    """The same number for the same name, in every sandbox."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


_CLAIMS: Mapping[str, Callable[[TokenRequest], dict[str, Any]]] = {
    "gitlab": _gitlab,
    "github": _github,
}
