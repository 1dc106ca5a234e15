"""GitLab's jobs, by the variables that they have. Values follow docs.gitlab.com, "Predefined CI/CD
variables reference".
"""

import pytest

from cipipe import ci
from cipipe.ci import gitlab
from cipipe.ci.base import Merge, NoToken, VariableToken
from cipipe.model import Context, Mode

ZEROS = "0" * 40
COMMIT = "1ecfd275763eff1d6b4844ea3168962458c9f27a"
BEFORE = "a5391128b0ef5d21df5dd23d98557f4ef12fae20"
BASE = "9cd4f7b1a1b8c2a3d6f0e5b7c8d9e0f1a2b3c4d5"

COMMON = {
    "CI": "true",
    "GITLAB_CI": "true",
    "CI_API_V4_URL": "https://gitlab.com/api/v4",
    "CI_COMMIT_REF_PROTECTED": "true",
    "CI_COMMIT_SHA": COMMIT,
    "CI_COMMIT_SHORT_SHA": COMMIT[:8],
    "CI_CONFIG_PATH": ".gitlab-ci.yml",
    "CI_DEFAULT_BRANCH": "main",
    "CI_JOB_ID": "379424655",
    "CI_PIPELINE_ID": "102913034",
    "CI_PIPELINE_IID": "42",
    "CI_PIPELINE_URL": "https://gitlab.com/acme/dbt/-/pipelines/102913034",
    "CI_PROJECT_ID": "17893",
    "CI_PROJECT_PATH": "acme/dbt",
    "CI_SERVER_URL": "https://gitlab.com",
    "GITLAB_USER_LOGIN": "ada",
}
BRANCH = {
    **COMMON,
    "CI_COMMIT_BRANCH": "main",
    "CI_COMMIT_REF_NAME": "main",
    "CI_COMMIT_REF_SLUG": "main",
}
PUSH = {**BRANCH, "CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BEFORE_SHA": BEFORE}
TAG = {
    **COMMON,
    "CI_COMMIT_TAG": "v1.2.0",
    "CI_COMMIT_REF_NAME": "v1.2.0",
    "CI_PIPELINE_SOURCE": "push",
    "CI_COMMIT_BEFORE_SHA": ZEROS,
}
SCHEDULE = {**BRANCH, "CI_PIPELINE_SOURCE": "schedule", "CI_COMMIT_BEFORE_SHA": ZEROS}
WEB = {**BRANCH, "CI_PIPELINE_SOURCE": "web", "CI_COMMIT_BEFORE_SHA": ZEROS}
MERGE_REQUEST = {
    **COMMON,
    "CI_COMMIT_REF_NAME": "feature",
    "CI_COMMIT_REF_PROTECTED": "false",
    "CI_COMMIT_BEFORE_SHA": ZEROS,
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_MERGE_REQUEST_ID": "90001",
    "CI_MERGE_REQUEST_IID": "7",
    "CI_MERGE_REQUEST_DIFF_BASE_SHA": BASE,
    "CI_MERGE_REQUEST_EVENT_TYPE": "detached",
    "CI_MERGE_REQUEST_PROJECT_ID": "17893",
    "CI_MERGE_REQUEST_PROJECT_PATH": "acme/dbt",
    "CI_MERGE_REQUEST_REF_PATH": "refs/merge-requests/7/head",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "feature",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": "",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "17893",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "acme/dbt",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    "CI_MERGE_REQUEST_TARGET_BRANCH_SHA": "",
    "CI_OPEN_MERGE_REQUESTS": "acme/dbt!7",
}
FORK = {
    **MERGE_REQUEST,
    "CI_PROJECT_ID": "55555",
    "CI_PROJECT_PATH": "mallory/dbt",
    "CI_PIPELINE_URL": "https://gitlab.com/mallory/dbt/-/pipelines/102913034",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "55555",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "mallory/dbt",
    "GITLAB_USER_LOGIN": "mallory",
}
CHILD = {
    **PUSH,
    "CI_PIPELINE_SOURCE": "parent_pipeline",
    "CI_PIPELINE_IID": "43",
    "CIPIPE_PIPELINE_IID": "42",
    "CIPIPE_PIPELINE_SOURCE": "push",
}

EXPECTED = Context(
    provider="gitlab",
    event="push",
    ref="main",
    ref_type="branch",
    commit=COMMIT,
    before=BEFORE,
    default_branch="main",
    protected=True,
    sequence=42,
    pipeline_url="https://gitlab.com/acme/dbt/-/pipelines/102913034",
    actor="ada",
    project="acme/dbt",
)


def with_(context: Context, **changes: object) -> Context:
    import msgspec

    return msgspec.structs.replace(context, **changes)


CONTEXTS = {
    "push": (PUSH, EXPECTED),
    "first push of a branch": (
        {**PUSH, "CI_COMMIT_BEFORE_SHA": ZEROS},
        with_(EXPECTED, before=None),
    ),
    "tag": (TAG, with_(EXPECTED, ref="v1.2.0", ref_type="tag", before=None)),
    "schedule": (SCHEDULE, with_(EXPECTED, event="schedule", before=None)),
    "started by hand": (WEB, with_(EXPECTED, event="manual", before=None)),
    "merge request": (
        MERGE_REQUEST,
        with_(
            EXPECTED,
            event="merge-request",
            ref="feature",
            base=BASE,
            before=None,
            merge_request=7,
            protected=False,
        ),
    ),
    "merge request from a fork": (
        FORK,
        with_(
            EXPECTED,
            event="merge-request",
            ref="feature",
            base=BASE,
            before=None,
            merge_request=7,
            protected=False,
            pipeline_url="https://gitlab.com/mallory/dbt/-/pipelines/102913034",
            actor="mallory",
            project="mallory/dbt",
            fork=True,
        ),
    ),
    "child of a push": (CHILD, EXPECTED),
    "child of a schedule": (
        {**SCHEDULE, **CHILD, "CIPIPE_PIPELINE_SOURCE": "schedule", "CI_COMMIT_BEFORE_SHA": ZEROS},
        with_(EXPECTED, event="schedule", before=None),
    ),
    "child of a merge request": (
        {**MERGE_REQUEST, "CI_PIPELINE_SOURCE": "parent_pipeline", "CI_PIPELINE_IID": "43"},
        with_(
            EXPECTED,
            event="merge-request",
            ref="feature",
            base=BASE,
            before=None,
            merge_request=7,
            protected=False,
            sequence=43,
        ),
    ),
    "child of a merge request, whose variables are hidden": (
        {
            **CHILD,
            "CIPIPE_PIPELINE_SOURCE": "push",
            "CI_MERGE_REQUEST_REF_PATH": "refs/merge-requests/7/head",
        },
        with_(EXPECTED, event="merge-request"),
    ),
    "external pull request": (
        {**PUSH, "CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_NAME": "feature"},
        with_(EXPECTED, event="merge-request"),
    ),
    "variables of a child count in a child alone": (
        {**PUSH, "CIPIPE_PIPELINE_IID": "999", "CIPIPE_PIPELINE_SOURCE": "schedule"},
        EXPECTED,
    ),
}


@pytest.mark.parametrize("case", CONTEXTS)
def test_context(case: str) -> None:
    env, expected = CONTEXTS[case]
    assert ci.detect(env).NAME == "gitlab"
    assert gitlab.context(env) == expected


def test_merge() -> None:
    target = {"CI_MERGE_REQUEST_TARGET_BRANCH_SHA": BEFORE}
    for kind in ("merged_result", "merge_train"):
        assert gitlab.merge(
            {**MERGE_REQUEST, "CI_MERGE_REQUEST_EVENT_TYPE": kind, **target}
        ) == Merge(COMMIT, BEFORE)
    assert gitlab.merge({**MERGE_REQUEST, "CI_MERGE_REQUEST_EVENT_TYPE": "merge_train"}) == Merge(
        COMMIT, None
    )
    assert gitlab.merge(MERGE_REQUEST) is None
    assert gitlab.merge(PUSH) is None


def test_mode() -> None:
    assert gitlab.context(MERGE_REQUEST).mode is Mode.VERIFY
    assert gitlab.context(TAG).mode is Mode.DEPLOY


def test_not_a_gitlab_runner() -> None:
    assert ci.detect({**PUSH, "GITLAB_CI": "false"}).NAME == "local"


def test_token() -> None:
    env = {**PUSH, "AWS_ID_TOKEN": "eyJ0.eyJ1.sig"}
    assert gitlab.token(
        env, audience="https://gitlab.com", token_variable="AWS_ID_TOKEN"
    ) == VariableToken("AWS_ID_TOKEN")
    found = gitlab.token(PUSH, audience="https://gitlab.com", token_variable="AWS_ID_TOKEN")
    assert isinstance(found, NoToken)
    assert "id_tokens: {AWS_ID_TOKEN: {aud: https://gitlab.com}}" in found.hint


def test_folding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1560896352.9)
    assert gitlab.fold_start("stage iac", "iac\r\n\x1b[0Ksection_end") == (
        "\x1b[0Ksection_start:1560896352:stage_iac\r\x1b[0Kiac   [0Ksection_end"
    )
    assert gitlab.fold_end("stage iac") == "\x1b[0Ksection_end:1560896352:stage_iac\r\x1b[0K"


def test_the_log() -> None:
    assert "warning: two lines" in gitlab.warning("two\nlines")
    assert gitlab.mask("secret") == ""
    assert gitlab.colour(PUSH) is True
    assert gitlab.colour({**PUSH, "NO_COLOR": "1"}) is False
