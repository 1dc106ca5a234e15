"""What a plan without the ledger compares with, and what a run refuses before it starts."""

import json
from pathlib import Path
from typing import Any

import pytest

from cipipe.errors import RefusedError, UsageError
from cipipe.model import Baseline, Newest, State
from cipipe.pipeline import project
from cipipe.pipeline.checks import refusals
from support.deployment import CONFIG, NOTHING_DUE, STAGES, Deployment, gitlab
from support.git import ENV, HOSTILE, Repo

NO_BASELINE = dict.fromkeys(STAGES, "due no-baseline") | {"default": "unchanged unchanged"}


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment.make(tmp_path / "repo")


def compared(deployment: Deployment, **options: Any) -> Baseline:
    return deployment.plan(offline=True, **options).baseline


def test_with_the_commit_that_was_asked_for(deployment: Deployment) -> None:
    first = deployment.repo.head
    deployment.repo.commit({"dbt/model.sql": "select 2"})
    deployment.repo.commit({"dags/dag.py": "changed"})
    assert compared(deployment, base=first) == Baseline("revision", first)
    assert deployment.due(base=first) == {"image", "dags"}
    assert deployment.due(base="HEAD~1") == {"dags"}
    assert deployment.paths("image", base=first) == {b"dbt/model.sql"}
    assert deployment.reasons(base="HEAD") == NOTHING_DUE


@pytest.mark.parametrize("base", ["nothing", "f" * 40, "", "--help", "HEAD:dbt", "a\nb"])
def test_with_a_commit_that_is_not_here(deployment: Deployment, base: str) -> None:
    with pytest.raises(UsageError) as caught:
        deployment.plan(base=base)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    "old", [None, "[project", CONFIG.replace('kind = "image"', 'kind = "else"')]
)
def test_with_a_commit_without_a_usable_configuration(
    deployment: Deployment, old: str | None
) -> None:
    bad = deployment.repo.commit({"cipipe.toml": old})
    deployment.repo.commit({"cipipe.toml": CONFIG})
    assert compared(deployment, base=bad) == Baseline("none")
    assert deployment.reasons(base=bad) == NO_BASELINE


def test_with_an_earlier_configuration(deployment: Deployment) -> None:
    """A stage that was not there is due; one of which only the settings changed says so."""
    old = deployment.repo.commit({"cipipe.toml": CONFIG.split("[stages.dags]")[0]})
    deployment.repo.commit(
        {"cipipe.toml": CONFIG.replace('context = "dbt"', 'context = "dbt"\nsmoke = ["dbt"]')}
    )
    assert deployment.due(base=old) == {"image", "dags"}
    details = {stage.name: stage.detail for stage in deployment.plan(base=old).stages}
    assert details["image"].startswith("no file changed, but its settings did")
    assert details["dags"].startswith("the stage is not in")


def test_a_branch_with_its_merge_base(deployment: Deployment, tmp_path: Path) -> None:
    fork = deployment.repo.head
    deployment.repo.git("branch", "side")
    deployment.repo.commit({"terraform/main.tf": "# main went on"})
    clone = Deployment(deployment.repo.clone(tmp_path / "clone"))
    clone.repo.git("checkout", "--quiet", "side")
    clone.repo.commit({"dags/dag.py": "changed"})
    for env in ({}, gitlab(CI_COMMIT_REF_NAME="side", CI_COMMIT_BEFORE_SHA="0" * 40)):
        assert compared(clone, env=env) == Baseline("revision", fork)
        assert clone.due(offline=True, env=env) == {"dags"}


def test_a_merge_request_with_the_base_that_the_provider_names(deployment: Deployment) -> None:
    base = deployment.repo.head
    deployment.repo.git("checkout", "--quiet", "-b", "side")
    deployment.repo.commit({"dags/dag.py": "changed"})
    env = gitlab(
        CI_PIPELINE_SOURCE="merge_request_event",
        CI_MERGE_REQUEST_IID="1",
        CI_MERGE_REQUEST_DIFF_BASE_SHA=base,
    )
    assert compared(deployment, env=env) == Baseline("revision", base)
    assert deployment.due(offline=True, env=env) == {"dags"}


class Merged:
    """A branch that changed a DAG, merged by the provider into a target that has gone on: HEAD of
    the job's clone.
    """

    def __init__(self, deployment: Deployment) -> None:
        repo = deployment.repo
        self.deployment, self.fork = deployment, repo.head
        repo.git("checkout", "--quiet", "-b", "side")
        self.source = repo.commit({"dags/dag.py": "changed"})
        repo.git("checkout", "--quiet", "main")
        self.target = repo.commit(
            {"dbt/model.sql": "select 2", "terraform/main.tf": "# main went on"}
        )
        repo.git("checkout", "--quiet", "--detach", "main")
        repo.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
        self.head = repo.head
        repo.git("update-ref", "refs/merge-requests/7/merge", self.head)

    def gitlab(self, **variables: str) -> dict[str, str]:
        given = {
            "CI_PIPELINE_SOURCE": "merge_request_event",
            "CI_MERGE_REQUEST_IID": "7",
            "CI_MERGE_REQUEST_EVENT_TYPE": "merged_result",
            "CI_MERGE_REQUEST_DIFF_BASE_SHA": self.fork,
            "CI_MERGE_REQUEST_TARGET_BRANCH_SHA": self.target,
            "CI_COMMIT_SHA": self.head,
            "CI_COMMIT_REF_NAME": "side",
        }
        return {**gitlab(**given | variables), "CI_COMMIT_BRANCH": ""}

    def github(self, event: str = "pull_request", **variables: str) -> dict[str, str]:
        # GitHub gives the base as it was when the request was last pushed to.
        payload = {
            "pull_request": {"number": 7, "base": {"sha": self.fork}},
            "repository": {"default_branch": "main"},
        }
        file = self.deployment.repo.root / ".git" / "event.json"
        file.write_text(json.dumps(payload))
        given = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": event,
            "GITHUB_EVENT_PATH": str(file),
            "GITHUB_REF": "refs/pull/7/merge",
            "GITHUB_SHA": self.head,
            "GITHUB_HEAD_REF": "side",
        }
        return given | variables

    def shallow(self, to: Path, depth: int) -> Deployment:
        """As a runner clones it: this commit, that deep, and no branch."""
        made = Repo(to)
        made.git(
            "fetch", "--quiet", f"--depth={depth}", self.deployment.repo.root.as_uri(), self.head
        )
        made.git("checkout", "--quiet", "--detach", "FETCH_HEAD")
        return Deployment(made)


def test_a_merged_result_with_the_target_that_it_was_merged_into(deployment: Deployment) -> None:
    """What only the target has changed since the branch left it is no change of the request."""
    merged = Merged(deployment)
    envs = {
        "merged result": merged.gitlab(),
        "merge train": merged.gitlab(CI_MERGE_REQUEST_EVENT_TYPE="merge_train"),
        "a target that GitLab does not name": merged.gitlab(CI_MERGE_REQUEST_TARGET_BRANCH_SHA=""),
        "github": merged.github(),
    }
    for name, env in envs.items():
        assert compared(deployment, env=env) == Baseline("revision", merged.target), name
        assert deployment.due(offline=True, env=env) == {"dags"}, name


@pytest.mark.parametrize("depth", [2, 50])
def test_a_merged_result_in_a_shallow_clone(
    deployment: Deployment, tmp_path: Path, depth: int
) -> None:
    merged = Merged(deployment)
    shallow = merged.shallow(tmp_path / "shallow", depth)
    for env in (
        merged.gitlab(),
        merged.gitlab(CI_MERGE_REQUEST_TARGET_BRANCH_SHA=""),
        merged.github(),
    ):
        assert compared(shallow, env=env) == Baseline("revision", merged.target)
        assert shallow.due(offline=True, env=env) == {"dags"}


def test_a_merged_result_whose_target_is_not_in_the_clone(
    deployment: Deployment, tmp_path: Path
) -> None:
    merged = Merged(deployment)
    shallow = merged.shallow(tmp_path / "shallow", 1)
    for env in (merged.gitlab(), merged.github()):
        assert shallow.reasons(offline=True, env=env) == NO_BASELINE


def test_a_merge_train_of_fast_forward_merges(deployment: Deployment) -> None:
    """There is no commit with two parents: GitLab names the commit that the request was put on top
    of.
    """
    merged = Merged(deployment)
    deployment.repo.git("checkout", "--quiet", "--detach", "main")
    deployment.repo.commit({"dags/dag.py": "changed"})
    head = deployment.repo.commit({"dags/dag.py": "changed again"})
    env = merged.gitlab(CI_MERGE_REQUEST_EVENT_TYPE="merge_train", CI_COMMIT_SHA=head)
    assert compared(deployment, env=env) == Baseline("revision", merged.target)
    assert deployment.due(offline=True, env=env) == {"dags"}


def test_a_branch_that_merged_its_target_itself_keeps_the_merge_base(
    deployment: Deployment,
) -> None:
    """HEAD has two parents here too, the first of which is the branch's own."""
    merged = Merged(deployment)
    deployment.repo.git("checkout", "--quiet", "side")
    deployment.repo.git("merge", "--quiet", "-m", "main into side", "main")
    head = deployment.repo.head
    detached = merged.gitlab(
        CI_MERGE_REQUEST_EVENT_TYPE="detached",
        CI_MERGE_REQUEST_TARGET_BRANCH_SHA="",
        CI_MERGE_REQUEST_DIFF_BASE_SHA=merged.target,
        CI_COMMIT_SHA=head,
    )
    assert compared(deployment, env=detached) == Baseline("revision", merged.target)
    assert deployment.due(offline=True, env=detached) == {"dags"}
    assert deployment.due(offline=True, base=merged.source) == {"iac", "image"}


@pytest.mark.parametrize("event", ["pull_request", "pull_request_target"])
def test_a_job_that_checked_out_the_branch_instead_of_the_merge(
    deployment: Deployment, event: str
) -> None:
    merged = Merged(deployment)
    deployment.repo.git("checkout", "--quiet", "side")
    env = merged.github(event)
    assert compared(deployment, env=env) == Baseline("revision", merged.fork)
    assert deployment.due(offline=True, env=env) == {"dags"}


def test_a_push_to_the_default_branch_with_what_was_there_before(deployment: Deployment) -> None:
    before = deployment.repo.head
    deployment.repo.commit({"dbt/model.sql": "select 2"})
    deployment.repo.commit({"dags/dag.py": "changed"})
    env = gitlab(CI_COMMIT_BEFORE_SHA=before)
    assert compared(deployment, env=env) == Baseline("revision", before)
    assert deployment.due(offline=True, env=env) == {"image", "dags"}


def test_a_forced_push_whose_old_commit_is_gone(deployment: Deployment) -> None:
    env = gitlab(CI_COMMIT_BEFORE_SHA="f" * 40)
    assert compared(deployment, env=env) == Baseline("none")
    assert deployment.reasons(offline=True, env=env) == NO_BASELINE


def test_a_first_push_of_five_commits(deployment: Deployment) -> None:
    for number in range(4):
        deployment.repo.commit({"dags/dag.py": str(number)})
    env = gitlab(CI_COMMIT_BEFORE_SHA="0" * 40)
    assert deployment.reasons(offline=True, env=env) == NO_BASELINE


def test_a_clone_of_depth_one_has_nothing_to_compare_with(
    deployment: Deployment, tmp_path: Path
) -> None:
    before = deployment.repo.head
    deployment.repo.git("checkout", "--quiet", "-b", "side")
    deployment.repo.commit({"dags/dag.py": "changed"})
    shallow = Deployment(deployment.repo.clone(tmp_path / "shallow", "--depth=1", "--branch=side"))
    env = gitlab(CI_COMMIT_REF_NAME="side", CI_COMMIT_BEFORE_SHA=before)
    assert shallow.reasons(offline=True, env=env) == NO_BASELINE


def test_a_configuration_on_disk_that_is_not_the_committed_one(deployment: Deployment) -> None:
    assert deployment.plan().warnings == ()
    deployment.repo.write({"cipipe.toml": CONFIG + "\n# changed\n"})
    assert deployment.plan().warnings == (
        "cipipe.toml differs from the commit; this plan uses the file on disk",
    )
    deployment.repo.git("rm", "--quiet", "--cached", "cipipe.toml")
    deployment.repo.git("commit", "--quiet", "-m", "x")
    assert "is not committed" in deployment.plan().warnings[0]


def refuse_dirty(deployment: Deployment, **options: Any) -> None:
    refusals.refuse_dirty(project.load(deployment.repo.root, ENV), deployment.planning(**options))


def test_a_run_on_a_dirty_work_tree(deployment: Deployment) -> None:
    refuse_dirty(deployment)
    deployment.repo.write({"docs/page.md": "dirty", "untracked": ""})
    refuse_dirty(deployment)
    deployment.repo.write({b"dbt/" + name: "" for name in HOSTILE} | {b"dags/dag.py": None})
    with pytest.raises(RefusedError) as caught:
        refuse_dirty(deployment)
    assert (caught.value.id, caught.value.exit_status) == ("dirty-work-tree", 5)
    assert "dags/dag.py" in caught.value.message
    assert "and 2 more" in caught.value.message
    assert all(line.isprintable() for line in caught.value.message.splitlines())
    refuse_dirty(deployment, selected=frozenset({"iac"}))
    deployment.deploy()
    refuse_dirty(deployment)


def test_a_run_with_a_configuration_that_is_not_committed(deployment: Deployment) -> None:
    deployment.repo.write({"cipipe.toml": CONFIG + "\n# changed\n"})
    with pytest.raises(RefusedError, match=r"cipipe\.toml"):
        refuse_dirty(deployment)


@pytest.mark.parametrize("path", ["dbt/packages/**", "dbt/**"])
def test_a_submodule_that_is_not_at_its_commit(tmp_path: Path, path: str) -> None:
    deployment = Deployment.make(tmp_path / "repo")
    deployment.repo.commit({"cipipe.toml": CONFIG.replace('"dbt/**"', f'"{path}"')})
    inner = Deployment.make(deployment.repo.root / "dbt/packages").repo
    deployment.repo.git("add", "dbt/packages")
    deployment.repo.git("commit", "--quiet", "-m", "x")
    refuse_dirty(deployment)
    inner.commit({"more": ""})
    with pytest.raises(RefusedError, match="dbt/packages"):
        refuse_dirty(deployment)


@pytest.mark.parametrize(
    ("sequence", "provider", "changed", "allowed", "refused"),
    [
        (6, "gitlab", True, False, True),
        (6, "gitlab", True, True, False),
        (6, "gitlab", False, False, False),
        (6, "github", True, False, False),
        (7, "gitlab", True, False, False),
        (8, "gitlab", True, False, False),
        (None, "gitlab", True, False, False),
    ],
)
def test_an_older_pipeline_after_a_newer_one(
    deployment: Deployment,
    sequence: int | None,
    provider: str,
    changed: bool,
    allowed: bool,
    refused: bool,
) -> None:
    deployment.deploy(sequence=7, provider=provider, state=State.DEPLOYED)
    if changed:
        deployment.repo.commit({"dbt/model.sql": "select 2"})
    env = gitlab(**({"CI_PIPELINE_IID": str(sequence)} if sequence else {}))
    found, made = project.load(deployment.repo.root, ENV | env), deployment.planning(env=env)
    if not refused:
        refusals.refuse_older(found, made, allowed=allowed)
        return
    with pytest.raises(RefusedError) as caught:
        refusals.refuse_older(found, made, allowed=allowed)
    assert (caught.value.id, caught.value.exit_status) == ("older-pipeline", 5)
    assert "(7, this one is 6)" in caught.value.message


@pytest.mark.parametrize(
    ("newest", "changed", "refused"), [(8, True, True), (8, False, False), (7, True, False)]
)
def test_after_a_newer_pipeline_for_which_nothing_was_due(
    deployment: Deployment, newest: int, changed: bool, refused: bool
) -> None:
    """No record shows it. If nothing is due for this one either, the ledger is not read."""
    deployment.deploy(sequence=5)
    if changed:
        deployment.repo.commit({"dbt/model.sql": "select 2"})
    env = gitlab(CI_PIPELINE_IID="7")
    found, made = project.load(deployment.repo.root, ENV | env), deployment.planning(env=env)
    read: list[str] = []

    def read_newest(provider: str) -> Newest:
        read.append(provider)
        return Newest(
            schema=1,
            provider=provider,
            sequence=newest,
            commit="c" * 40,
            pipeline_url="https://ci/8",
        )

    if refused:
        with pytest.raises(RefusedError) as caught:
            refusals.refuse_older(found, made, allowed=False, newest=read_newest)
        assert (caught.value.id, caught.value.where) == ("older-pipeline", "https://ci/8")
    else:
        refusals.refuse_older(found, made, allowed=False, newest=read_newest)
    assert read == (["gitlab"] if changed else [])
    refusals.refuse_older(found, made, allowed=True, newest=read_newest)
    assert read == (["gitlab"] if changed else [])


def test_a_folder_that_is_no_repository_and_one_without_a_commit(tmp_path: Path) -> None:
    empty = Deployment.make(tmp_path / "repo")
    empty.repo.git("checkout", "--quiet", "--orphan", "new")
    with pytest.raises(UsageError) as caught:
        empty.plan()
    assert caught.value.id == "git-no-commit"
