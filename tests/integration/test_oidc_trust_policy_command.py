"""`cipipe oidc trust-policy`: a policy admits what it is for, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.deployment import CONFIG, Deployment
from support.oidc_command import ACCOUNT, HUB, LAB, OidcCommand, github, gitlab, written

# --- trust-policy --------------------------------------------------------------------------------

LAB_MAIN = ("--provider", "gitlab", "--project", "acme/dbt", "--ref", "main", "--provider-arn", LAB)

HUB_MAIN = ("--provider", "github", "--project", "acme/dbt", "--ref", "main", "--provider-arn", HUB)

HUB_LIVE = (
    "--provider",
    "github",
    "--project",
    "acme/dbt",
    "--environment",
    "Li:ve",
    "--provider-arn",
    HUB,
)

TAGS = ("--ref", "refs/tags/v*")

LAB_IDS = ("--pin-ids", "--project-id", "20", "--owner-id", "72")

HUB_IDS = ("--pin-ids", "--project-id", "456", "--owner-id", "123")

DEPLOYING = ("api", "parent_pipeline", "schedule", "trigger", "web")

PINNED = {"sub": "repo:acme@123/dbt@456:ref:refs/heads/main"}


@pytest.mark.parametrize(
    ("arguments", "allowed", "denied"),
    [
        (
            LAB_MAIN,
            [gitlab(), *(gitlab(pipeline_source=source) for source in DEPLOYING)],
            [
                gitlab("side"),
                gitlab("main2"),
                gitlab("main", ref_type="tag"),
                gitlab(project_path="mallory/dbt"),
                gitlab(project_path="acme/dbt2"),
                gitlab("side", pipeline_source="merge_request_event"),
                gitlab(ref_protected="false", pipeline_source="merge_request_event"),
                gitlab(ref_protected="false", pipeline_source="parent_pipeline"),
                gitlab(pipeline_source="merge_request_event"),
                gitlab(pipeline_source="external_pull_request_event"),
                gitlab(aud="https://example.com"),
                gitlab(iss="https://gitlab.example.com"),
                github(),
            ],
        ),
        (
            (*LAB_MAIN, *LAB_IDS),
            [gitlab()],
            [
                gitlab("side"),
                gitlab(project_id="21"),
                gitlab(namespace_id="73"),
                gitlab(ref_protected="false", pipeline_source="merge_request_event"),
            ],
        ),
        ((*LAB_MAIN, "--protected"), [gitlab(project_id="21")], [gitlab(ref_protected="false")]),
        (
            (*LAB_MAIN, *LAB_IDS, "--no-protected"),
            [gitlab(ref_protected="false")],
            [gitlab(project_id="21")],
        ),
        (
            (*LAB_MAIN, *TAGS),
            [gitlab(), gitlab("v1", ref_type="tag")],
            [gitlab("v1"), gitlab("w1", ref_type="tag")],
        ),
        (
            HUB_MAIN,
            [github()],
            [
                github("ref:refs/heads/side"),
                github("ref:refs/tags/main"),
                github("pull_request"),
                github("environment:live"),
                github(repository="mallory/dbt"),
                github(repository="acme/dbt2"),
                github(aud="https://github.com/acme"),
                github(**PINNED),
                gitlab(),
            ],
        ),
        (
            (*HUB_MAIN, *HUB_IDS),
            [github(), github(**PINNED)],
            [
                github(repository_id="457"),
                github(repository_owner_id="124"),
                github("pull_request"),
                github(sub="repo:acme@123/dbt@456:pull_request"),
                github(sub="repo:acme@123/dbt@457:ref:refs/heads/main", repository_id="457"),
            ],
        ),
        (
            HUB_LIVE,
            [github("environment:Li%3Ave")],
            [
                github("environment:live"),
                github(),
                github("environment:Li:ve"),
                github("pull_request"),
            ],
        ),
        (
            (*HUB_LIVE, "--environment-ref", "main", "--environment-ref", "refs/tags/v*", *HUB_IDS),
            [
                github("environment:Li%3Ave", ref="refs/heads/main"),
                github(sub="repo:acme@123/dbt@456:environment:Li%3Ave", ref="refs/tags/v2"),
            ],
            [
                github("environment:Li%3Ave", ref="refs/pull/7/merge", event_name="pull_request"),
                github("environment:Li%3Ave", ref="refs/tags/main"),
                github("environment:Li%3Ave"),
            ],
        ),
    ],
)
def test_a_policy_lets_in_what_it_is_for_and_nothing_else(
    oidc: OidcCommand,
    arguments: tuple[str, ...],
    allowed: list[dict[str, Any]],
    denied: list[dict[str, Any]],
) -> None:
    made = oidc("trust-policy", *arguments)
    written("p", made.out)
    ids, open_to_requests = "--pin-ids" in arguments, "--no-protected" in arguments
    by_names = "github" in arguments and not ids
    assert made.status == 0
    assert ("have ids in them" in made.err) is by_names
    assert ("oidc-merge-request-indistinct" in made.err) is open_to_requests
    assert bool(made.err) is (by_names or open_to_requests)
    for claims in allowed:
        done = oidc(
            "explain", "--policy", "p", "--claims", written("c", claims), "--format", "json"
        )
        assert (done.status, done.document["verdict"]) == (0, "allowed")
        indistinct = ["oidc-merge-request-indistinct"] if open_to_requests else []
        assert done.ids == indistinct + ([] if ids else ["oidc-mutable-name"])
    for claims in denied:
        done = oidc(
            "explain", "--policy", "p", "--claims", written("c", claims), "--format", "json"
        )
        assert (done.status, done.document["verdict"]) == (3, "denied"), claims


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        ((*LAB_MAIN[:-1], f"{ACCOUNT}/gitlab.example.com", *LAB_IDS), "oidc-pins-not-visible"),
        ((*LAB_MAIN[:-1], f"{ACCOUNT}/gitlab.example.com", "--protected"), "oidc-pins-not-visible"),
        ((*HUB_MAIN, "--protected"), "oidc-pins-not-visible"),
        ((*LAB_MAIN, "--pin-ids"), "usage"),
        ((*LAB_MAIN, "--pin-ids", "--project-id", "x", "--owner-id", "1"), "usage"),
        ((*LAB_MAIN, "--environment", "live"), "usage"),
        ((*HUB_MAIN, "--environment", "live"), "usage"),
        ((*HUB_MAIN, "--environment-ref", "main"), "usage"),
        ((*HUB_LIVE, "--environment-ref", "a b"), "usage"),
        (
            (*HUB_LIVE[:-1], f"{ACCOUNT}/github.example.com", "--environment-ref", "main"),
            "oidc-pins-not-visible",
        ),
        (LAB_MAIN[2:], "usage"),
        (LAB_MAIN[:-2], "usage"),
        ((*LAB_MAIN[:2], *LAB_MAIN[4:]), "usage"),
        ((*LAB_MAIN[:4], *LAB_MAIN[6:]), "usage"),
        ((*LAB_MAIN[:3], "acme/*", *LAB_MAIN[4:]), "usage"),
        ((*HUB_MAIN[:3], "acme", *HUB_MAIN[4:]), "usage"),
        ((*HUB_MAIN[:3], "acme/dbt:x", *HUB_MAIN[4:]), "usage"),
        ((*HUB_MAIN[:3], "acme/db t", *HUB_MAIN[4:]), "usage"),
        ((*HUB_MAIN[:-1], LAB), "usage"),
        ((*LAB_MAIN[:-1], f"{HUB}/acme"), "usage"),
        ((*LAB_MAIN, "--ref", ""), "usage"),
        ((*LAB_MAIN, "--ref", "refs/pull/1/merge"), "usage"),
        ((*LAB_MAIN, "--ref", "refs/heads/"), "usage"),
        ((*LAB_MAIN, "--ref", "a b"), "usage"),
        ((*LAB_MAIN, "--audience", ""), "usage"),
        ((*LAB_MAIN, "--project-id", "5"), "usage"),
        ((*LAB_MAIN, "--owner-id", "5"), "usage"),
        ((*LAB_MAIN, "--pin-ids", "--project-id", "5", "--owner-id", "\u0663"), "usage"),
        ((*HUB_LIVE[:5], "", *HUB_LIVE[6:]), "usage"),
    ],
)
def test_a_policy_that_would_not_hold_is_not_written(
    oidc: OidcCommand, arguments: tuple[str, ...], id: str
) -> None:
    done = oidc("trust-policy", *arguments, "--format", "json")
    assert (done.status, done.document["error"]["id"]) == (2, id)


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ((*HUB_MAIN[:-1], LAB), "--provider-arn"),
        ((*LAB_MAIN, "--ref", "refs/pull/1/merge"), "--ref"),
        ((*LAB_MAIN, "--audience", " "), "--audience"),
        ((*LAB_MAIN, "--owner-id", "5"), "--owner-id"),
        ((*HUB_LIVE[:5], "", *HUB_LIVE[6:]), "--environment"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(
    oidc: OidcCommand, arguments: tuple[str, ...], where: str
) -> None:
    error = oidc("trust-policy", *arguments, "--format", "json").document["error"]
    assert error["where"] == where
    assert error["hint"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*LAB_MAIN[:5], "*", *LAB_MAIN[6:], "--no-protected"), "code that is not merged"),
        ((*LAB_MAIN[:5], "*", *LAB_MAIN[6:]), "every branch"),
        ((*HUB_MAIN[:5], "*", *HUB_MAIN[6:]), "every branch"),
        ((*HUB_MAIN[:5], "refs/tags/*", *HUB_MAIN[6:]), "every tag"),
        ((*HUB_LIVE[:5], "*", *HUB_LIVE[6:]), "every environment"),
    ],
)
def test_a_policy_that_lets_in_much_is_warned_of(
    oidc: OidcCommand, arguments: tuple[str, ...], words: str
) -> None:
    made = oidc("trust-policy", *arguments)
    assert made.status == 0
    assert words in made.err


def test_ids_come_from_the_job(oidc: OidcCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "GITLAB_CI": "true",
        "CI_PROJECT_ID": "20",
        "CI_PROJECT_NAMESPACE_ID": "72",
    }.items():
        monkeypatch.setenv(name, value)
    made = oidc("trust-policy", *LAB_MAIN, "--pin-ids", "--format", "json").document["policy"]
    assert made["Statement"][0]["Condition"]["StringEquals"]["gitlab.com:project_id"] == "20"


def test_the_rest_comes_from_the_configuration(
    oidc: OidcCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = Deployment.make(tmp_path / "repo")
    refs = 'role/deploy"\ndeploy_from = { branches = ["main"] }\n'
    text = CONFIG.replace('role/deploy"\n', refs, 1) + '[oidc]\ngitlab = { project = "acme/dbt" }\n'
    (deployment.repo.root / "cipipe.toml").write_text(text)
    monkeypatch.chdir(deployment.repo.root)
    done = oidc("trust-policy", "--env", "dev")
    assert done.status == 0, done.err
    subject = json.loads(done.out)["Statement"][0]["Condition"]["StringEquals"]["gitlab.com:sub"]
    assert subject == "project_path:acme/dbt:ref_type:branch:ref:main"


@pytest.mark.parametrize(
    ("provider", "conditions"),
    [
        (
            "github",
            {
                "StringEquals": {
                    "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
                    "token.actions.githubusercontent.com:sub": "repo:acme/dbt:environment:live",
                },
                "StringLike": {
                    "token.actions.githubusercontent.com:ref": ["refs/heads/main", "refs/tags/v*"]
                },
            },
        ),
        # GitLab's subjects have no environment.
        ("gitlab", {"ref_type:branch:ref:main", "ref_type:tag:ref:v*"}),
    ],
)
def test_the_environment_that_jobs_name_comes_from_the_configuration(
    oidc: OidcCommand,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    conditions: Any,
) -> None:
    deployment = Deployment.make(tmp_path / "repo")
    refs = (
        'role/deploy"\ndeploy_from = { branches = ["main"], tags = ["v*"] }\n'
        'job_environment = "live"\n'
    )
    text = CONFIG.replace('role/deploy"\n', refs, 1)
    text += f'[oidc]\n{provider} = {{ project = "acme/dbt" }}\n'
    (deployment.repo.root / "cipipe.toml").write_text(text)
    monkeypatch.chdir(deployment.repo.root)
    made = oidc("trust-policy", "--env", "dev")
    assert made.status == 0, made.err
    found = json.loads(made.out)["Statement"][0]["Condition"]
    if provider == "gitlab":
        subjects = found["StringLike"]["gitlab.com:sub"]
        assert {subject.partition("acme/dbt:")[2] for subject in subjects} == conditions
        return
    assert found == conditions
    written("p", made.out)
    verdicts = {}
    for subject in ("environment:live", "environment:test", "ref:refs/heads/main", "pull_request"):
        claims = written("c", github(subject, ref="refs/heads/main"))
        done = oidc("explain", "--policy", "p", "--claims", claims, "--format", "json")
        verdicts[subject] = done.document["verdict"]
    assert verdicts.pop("environment:live") == "allowed"
    assert set(verdicts.values()) == {"denied"}

    # A ref that is named on the command line counts more.
    other = oidc("trust-policy", "--env", "dev", "--ref", "main")
    assert "environment:live" not in other.out


@pytest.mark.parametrize(
    ("more", "refs"),
    [
        ((), ["refs/heads/*", "refs/tags/*"]),
        (
            ("--environment-ref", "main", "--environment-ref", "refs/tags/v1"),
            ["refs/heads/main", "refs/tags/v1"],
        ),
    ],
)
def test_an_environments_jobs_are_of_the_workflows_that_are_set(
    oidc: OidcCommand,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    refs: list[str],
) -> None:
    deployment = Deployment.make(tmp_path / "repo")
    file = ".github/workflows/deploy.yml"
    text = f'{CONFIG}[oidc]\ngithub = {{ project = "acme/dbt", workflows = ["{file}"] }}\n'
    (deployment.repo.root / "cipipe.toml").write_text(text)
    monkeypatch.chdir(deployment.repo.root)
    made = oidc("trust-policy", "--provider", "github", "--environment", "live", *more)
    assert made.status == 0, made.err
    (statement,) = json.loads(made.out)["Statement"]
    asked = {
        key: values for block in statement["Condition"].values() for key, values in block.items()
    }
    workflows = asked["token.actions.githubusercontent.com:job_workflow_ref"]
    assert workflows == [f"acme/dbt/{file}@{ref}" for ref in refs], (
        "and not at refs/pull/…, as a pull request's"
    )


def test_what_only_the_subject_can_tell_is_said_with_what_to_do(oidc: OidcCommand) -> None:
    own = "arn:aws:iam::111111111111:oidc-provider/git.example.com"
    made = oidc(
        "trust-policy",
        "--provider",
        "gitlab",
        "--project",
        "acme/dbt",
        "--ref",
        "main",
        "--provider-arn",
        own,
    )
    assert made.status == 0
    assert "oidc-merge-request-indistinct" in made.err
    assert "ref:main:environment_protected:true" in made.err
