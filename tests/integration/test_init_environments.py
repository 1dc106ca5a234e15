"""`cipipe init` with several environments, and again with others."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from support.component import component
from support.init_repos import contents, made, ok, written
from support.init_shapes import FLAGS, S3

ROOT = {"terraform/main.tf": S3}
THREE = (*FLAGS, "--environments", "dev,test,live")
# What deploys, by environment.
REFS = {"dev": ("branch", "main"), "test": ("branch", "test"), "live": ("tag", "v1.2.3")}

GITLAB = {"GITLAB_CI": "true", "CI_PIPELINE_SOURCE": "push"}
GITHUB = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push", "GITHUB_REPOSITORY": "data/shop"}


def job(provider: str, kind: str, ref: str) -> dict[str, str]:
    if provider == "gitlab":
        named = {"CI_COMMIT_TAG": ref} if kind == "tag" else {"CI_COMMIT_BRANCH": ref}
        return {**GITLAB, "CI_COMMIT_REF_NAME": ref, **named}
    folder = "tags" if kind == "tag" else "heads"
    return {**GITHUB, "GITHUB_REF": f"refs/{folder}/{ref}", "GITHUB_REF_NAME": ref}


@pytest.mark.parametrize("provider", ["gitlab", "github"])
def test_each_environment_is_deployed_to_by_a_ref_of_its_own(provider: str, tmp_path: Path) -> None:
    repo, cli = made(tmp_path, ROOT)
    repo.git("remote", "set-url", "origin", f"https://{provider}.com/data/shop")
    ok(cli("init", "--yes", *THREE))
    repo.commit()
    assert [one.get("after") for one in written(repo)["environments"].values()] == [
        None,
        "dev",
        "test",
    ]
    for name, (kind, ref) in REFS.items():
        done = ok(cli("plan", "--offline", "--format", "json", **job(provider, kind, ref)))
        assert (done.document["environment"], done.document["mode"]) == (name, "deploy"), ref


def test_each_environment_has_a_job(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, ROOT)
    repo.git("remote", "add", "mirror", "https://github.com/data/shop")
    ok(cli("init", "--yes", *THREE))

    gitlab = yaml.safe_load((repo.root / ".gitlab-ci.yml").read_text())
    rules = {name: gitlab[f"deploy:{name}"]["rules"] for name in REFS}
    assert rules["test"] == [{"if": '$CI_COMMIT_BRANCH == "test"'}]
    assert len({str(rule) for rule in rules.values()}) == len(REFS)
    # No job of a pipeline that is not created runs.
    assert gitlab["workflow"]["rules"][1:] == [rule for (rule,) in rules.values()]

    (pushed,) = on(repo.root / ".github/workflows/cipipe.yml")
    assert pushed == {"branches": ["main", "test"], "tags": ["v*"]}


def on(workflow: Path) -> list[Any]:
    # YAML 1.1 reads the key `on` as true.
    return [yaml.safe_load(workflow.read_text())[True]["push"]]


def test_each_environment_has_the_shared_jobs(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, ROOT)
    repo.git("remote", "add", "mirror", "https://github.com/data/shop")
    workflow = "data/cipipe/.github/workflows/cipipe.yml@" + "0" * 40
    shared = ("--component", "gitlab.com/data/cipipe/deploy@1", "--workflow", workflow)
    ok(cli("init", "--yes", *THREE, *shared, "--image", "registry/cipipe:1"))

    includes = yaml.safe_load((repo.root / ".gitlab-ci.yml").read_text())["include"]
    jobs = [component(one["inputs"]) for one in includes]
    conditions = [
        found[f"deploy:{name}"]["rules"][0]["if"] for name, found in zip(REFS, jobs, strict=True)
    ]
    assert '$CI_COMMIT_BRANCH == "test"' in conditions[1]
    (pushed,) = on(repo.root / ".github/workflows/cipipe.yml")
    assert pushed["branches"] == ["main", "test"]


def test_a_default_branch_called_like_an_environment(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, ROOT)
    repo.git("branch", "--move", "test")
    ok(cli("init", "--yes", *THREE))
    found = {name: one["deploy_from"] for name, one in written(repo)["environments"].items()}
    assert found["dev"] == {"branches": ["test"]}
    assert found["test"] == {"branches": ["deploy/test"]}


def test_again_with_other_environments(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, ROOT)
    ok(cli("init", "--yes", *FLAGS, "--environments", "dev"))
    before = contents(repo)
    again = ("init", "--yes", *FLAGS, "--environments", "dev,live")

    refused = cli(*again, "--format", "json")
    assert (refused.status, refused.error) == (5, "init-would-overwrite")
    assert "+[environments.live]" in refused.err
    assert contents(repo) == before

    done = ok(cli(*again, "--force"))
    assert "+[environments.live]" in done.out
    assert list(written(repo)["environments"]) == ["dev", "live"]
    changed = {name for name, body in contents(repo).items() if body != before.get(name)}
    assert changed == {"cipipe.toml"}
    assert ".gitlab-ci.yml stays as it is: look whether it deploys to dev, live" in done.out
    assert "stays as it is" not in ok(cli(*again)).out, "when nothing changes"


def test_what_stays_is_in_the_document(tmp_path: Path) -> None:
    _, cli = made(tmp_path, ROOT)
    ok(cli("init", "--yes", *FLAGS, "--environments", "dev"))
    done = ok(cli("init", "--yes", *THREE, "--force", "--format", "json"))
    assert done.document["written"] == ["cipipe.toml"]
    assert json.dumps(done.document["kept"]) == '[".gitlab-ci.yml"]'
