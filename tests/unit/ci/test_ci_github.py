"""GitHub's jobs, by their variables and event payloads. Values follow docs.github.com, "Variables
reference".
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cipipe import ci
from cipipe.ci import github
from cipipe.ci.base import Merge, NoToken, RequestToken
from cipipe.errors import UsageError
from cipipe.model import Context

ZEROS = "0" * 40
COMMIT = "ffac537e6cbbf934b08745a378932722df287a53"
BEFORE = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
BASE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

COMMON = {
    "CI": "true",
    "GITHUB_ACTIONS": "true",
    "GITHUB_ACTOR": "octocat",
    "GITHUB_API_URL": "https://api.github.com",
    "GITHUB_BASE_REF": "",
    "GITHUB_HEAD_REF": "",
    "GITHUB_JOB": "plan",
    "GITHUB_REF_PROTECTED": "true",
    "GITHUB_REPOSITORY": "acme/dbt",
    "GITHUB_REPOSITORY_ID": "924666315",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_RUN_ID": "1658821493",
    "GITHUB_RUN_NUMBER": "3",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_SHA": COMMIT,
    "GITHUB_TRIGGERING_ACTOR": "octocat",
    "RUNNER_ENVIRONMENT": "github-hosted",
}
MAIN = {
    **COMMON,
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_REF_NAME": "main",
    "GITHUB_REF_TYPE": "branch",
}
PUSH = {**MAIN, "GITHUB_EVENT_NAME": "push"}
TAG = {
    **COMMON,
    "GITHUB_EVENT_NAME": "push",
    "GITHUB_REF": "refs/tags/v1.2.0",
    "GITHUB_REF_NAME": "v1.2.0",
    "GITHUB_REF_TYPE": "tag",
    "GITHUB_REF_PROTECTED": "false",
}
PULL_REQUEST = {
    **COMMON,
    "GITHUB_EVENT_NAME": "pull_request",
    "GITHUB_BASE_REF": "main",
    "GITHUB_HEAD_REF": "feature",
    "GITHUB_REF": "refs/pull/7/merge",
    "GITHUB_REF_NAME": "7/merge",
    "GITHUB_REF_TYPE": "branch",
    "GITHUB_REF_PROTECTED": "false",
}
REPOSITORY = {"full_name": "acme/dbt", "default_branch": "main"}


def pull_request(head: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "action": "synchronize",
        "number": 7,
        "before": BEFORE,
        "pull_request": {
            "number": 7,
            "base": {"ref": "main", "sha": BASE, "repo": REPOSITORY},
            "head": {"ref": "feature", "sha": COMMIT, "repo": head},
        },
        "repository": REPOSITORY,
    }


PUSHED = {
    "ref": "refs/heads/main",
    "before": BEFORE,
    "after": COMMIT,
    "forced": False,
    "repository": REPOSITORY,
}
EXPECTED = Context(
    provider="github",
    event="push",
    ref="main",
    ref_type="branch",
    commit=COMMIT,
    before=BEFORE,
    default_branch="main",
    protected=True,
    sequence=1658821493,
    pipeline_url="https://github.com/acme/dbt/actions/runs/1658821493",
    actor="octocat",
    project="acme/dbt",
)


def triggered(**run: Any) -> dict[str, Any]:
    return {
        "workflow_run": {"head_branch": "main", "head_repository": REPOSITORY, **run},
        "repository": REPOSITORY,
    }


AFTER = {**MAIN, "GITHUB_EVENT_NAME": "workflow_run"}
AFTER_REQUEST = msgspec.structs.replace(EXPECTED, event="merge-request", before=None)
REQUESTED = msgspec.structs.replace(
    EXPECTED, event="merge-request", ref="feature", base=BASE, merge_request=7, protected=False
)

CONTEXTS: dict[str, tuple[dict[str, str], dict[str, Any], Context]] = {
    "push": (PUSH, PUSHED, EXPECTED),
    "first push of a branch": (
        PUSH,
        {**PUSHED, "before": ZEROS},
        msgspec.structs.replace(EXPECTED, before=None),
    ),
    "tag": (
        TAG,
        {**PUSHED, "ref": "refs/tags/v1.2.0", "before": ZEROS, "base_ref": "refs/heads/main"},
        msgspec.structs.replace(
            EXPECTED, ref="v1.2.0", ref_type="tag", before=None, protected=False
        ),
    ),
    "pull request": (PULL_REQUEST, pull_request(REPOSITORY), REQUESTED),
    "pull request from a fork": (
        PULL_REQUEST,
        pull_request({"full_name": "mallory/dbt", "default_branch": "main"}),
        msgspec.structs.replace(REQUESTED, fork=True),
    ),
    "pull request from a fork that is gone": (
        PULL_REQUEST,
        pull_request(None),
        msgspec.structs.replace(REQUESTED, fork=True),
    ),
    "pull_request_target runs with the base's rights, and verifies all the same": (
        {**PULL_REQUEST, "GITHUB_EVENT_NAME": "pull_request_target"},
        pull_request({"full_name": "mallory/dbt"}),
        msgspec.structs.replace(REQUESTED, fork=True),
    ),
    "merge queue": (
        {
            **MAIN,
            "GITHUB_EVENT_NAME": "merge_group",
            "GITHUB_REF_NAME": "gh-readonly-queue/main/pr-7",
        },
        {"merge_group": {"base_sha": BASE, "head_sha": COMMIT}, "repository": REPOSITORY},
        msgspec.structs.replace(
            EXPECTED,
            event="merge-request",
            ref="gh-readonly-queue/main/pr-7",
            base=BASE,
            before=None,
        ),
    ),
    "merge queue, by its ref alone": (
        {**PUSH, "GITHUB_REF": "refs/heads/gh-readonly-queue/main/pr-7", "GITHUB_REF_NAME": "main"},
        PUSHED,
        msgspec.structs.replace(EXPECTED, event="merge-request"),
    ),
    "pull request, by its head alone": (
        {**PUSH, "GITHUB_HEAD_REF": "feature"},
        PUSHED,
        msgspec.structs.replace(EXPECTED, event="merge-request", ref="feature"),
    ),
    "review of a pull request": (
        {**PULL_REQUEST, "GITHUB_EVENT_NAME": "pull_request_review"},
        pull_request(REPOSITORY),
        REQUESTED,
    ),
    "tag called like a branch": (
        {**PUSH, "GITHUB_REF": "refs/tags/main"},
        PUSHED,
        msgspec.structs.replace(EXPECTED, ref_type="tag"),
    ),
    "run after a push": (
        AFTER,
        triggered(event="push"),
        msgspec.structs.replace(EXPECTED, event="manual", before=None),
    ),
    "run after a pull request": (AFTER, triggered(event="pull_request"), AFTER_REQUEST),
    "run after a run": (AFTER, triggered(event="workflow_run"), AFTER_REQUEST),
    "run after a fork's": (
        AFTER,
        triggered(event="push", head_repository={"full_name": "mallory/dbt"}),
        msgspec.structs.replace(AFTER_REQUEST, fork=True),
    ),
    "run after nobody knows what": (AFTER, {"repository": REPOSITORY}, AFTER_REQUEST),
    "workflow_dispatch": (
        {**MAIN, "GITHUB_EVENT_NAME": "workflow_dispatch"},
        {"inputs": {"environment": "dev"}, "ref": "refs/heads/main", "repository": REPOSITORY},
        msgspec.structs.replace(EXPECTED, event="manual", before=None),
    ),
    "schedule": (
        {**MAIN, "GITHUB_EVENT_NAME": "schedule"},
        {"schedule": "0 4 * * *", "repository": REPOSITORY},
        msgspec.structs.replace(EXPECTED, event="schedule", before=None),
    ),
}


@pytest.mark.parametrize("case", CONTEXTS)
def test_context(case: str, tmp_path: Path) -> None:
    env, payload, expected = CONTEXTS[case]
    event = tmp_path / "event.json"
    event.write_text(json.dumps(payload))
    assert ci.detect(env).NAME == "github"
    assert github.context({**env, "GITHUB_EVENT_PATH": str(event)}) == expected


def test_merge() -> None:
    assert github.merge({**PULL_REQUEST, "GITHUB_SHA": COMMIT}) == Merge(COMMIT)
    assert github.merge({**PULL_REQUEST, "GITHUB_EVENT_NAME": "pull_request_target"}) is None
    assert github.merge({**PULL_REQUEST, "GITHUB_REF": "refs/heads/7/merge"}) is None
    assert github.merge(PUSH) is None


def test_without_a_payload(tmp_path: Path) -> None:
    context = github.context({**PUSH, "GITHUB_EVENT_PATH": str(tmp_path / "none.json")})
    assert context == msgspec.structs.replace(EXPECTED, before=None, default_branch=None)
    assert github.context(PULL_REQUEST).fork is True


def test_a_damaged_payload(tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text("{")
    with pytest.raises(UsageError) as caught:
        github.context({**PUSH, "GITHUB_EVENT_PATH": str(event)})
    assert caught.value.id == "ci-event-unreadable"


def test_token() -> None:
    env = {
        **PUSH,
        "ACTIONS_ID_TOKEN_REQUEST_URL": "https://pipelines.actions.githubusercontent.com/x/idtoken?api-version=2.0",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "bearer-of-secrets",
    }
    source = github.token(env, audience="https://a.b/?c=d&e", token_variable="AWS_ID_TOKEN")
    assert source == RequestToken(
        "https://pipelines.actions.githubusercontent.com/x/idtoken?api-version=2.0&audience=https%3A%2F%2Fa.b%2F%3Fc%3Dd%26e",
        "bearer-of-secrets",
    )
    assert "bearer-of-secrets" not in repr(source)


def test_no_token() -> None:
    found = github.token(
        {**PUSH, "AWS_ID_TOKEN": "x"}, audience="sts.amazonaws.com", token_variable="AWS_ID_TOKEN"
    )
    assert isinstance(found, NoToken)
    assert "id-token: write" in found.hint


def test_workflow_commands() -> None:
    assert github.fold_start("iac", "iac\n::set-output") == "::group::iac ::set-output"
    assert github.fold_end("iac") == "::endgroup::"
    assert github.warning("50%\r\nof it") == "::warning::50%25%0D%0Aof it"
    assert github.mask("{\n  first\n\nsecond%\n}\n") == "::add-mask::  first\n::add-mask::second%25"
    assert github.mask("") == github.mask("\n \n") == ""
    assert github.mask("") == ""
    assert github.mask(" \n") == ""
    assert github.colour(PUSH) is True
