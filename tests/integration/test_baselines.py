"""What a plan without the ledger compares with, and what a run refuses before it starts."""

from pathlib import Path
from typing import Any

import pytest
from deployments import CONFIG, NOTHING_DUE, STAGES, World, gitlab
from repo import ENV, HOSTILE

from cipipe.errors import RefusedError, UsageError
from cipipe.model import Baseline, Newest, State
from cipipe.pipeline import planning, project, refusals

NO_BASELINE = dict.fromkeys(STAGES, "due no-baseline") | {"default": "unchanged unchanged"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path / "repo")


def compared(world: World, **options: Any) -> Baseline:
    return world.plan(offline=True, **options).baseline


def test_with_the_commit_that_was_asked_for(world: World) -> None:
    first = world.repo.head
    world.repo.commit({"dbt/model.sql": "select 2"})
    world.repo.commit({"dags/dag.py": "changed"})
    assert compared(world, base=first) == Baseline("revision", first)
    assert world.due(base=first) == {"image", "dags"}
    assert world.due(base="HEAD~1") == {"dags"}
    assert world.paths("image", base=first) == {b"dbt/model.sql"}
    assert world.reasons(base="HEAD") == NOTHING_DUE


@pytest.mark.parametrize("base", ["nothing", "f" * 40, "", "--help", "HEAD:dbt", "a\nb"])
def test_with_a_commit_that_is_not_here(world: World, base: str) -> None:
    with pytest.raises(UsageError) as caught:
        world.plan(base=base)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("old", [None, "[project", CONFIG.replace('kind = "image"', 'kind = "else"')])
def test_with_a_commit_without_a_usable_configuration(world: World, old: str | None) -> None:
    bad = world.repo.commit({"cipipe.toml": old})
    world.repo.commit({"cipipe.toml": CONFIG})
    assert compared(world, base=bad) == Baseline("none")
    assert world.reasons(base=bad) == NO_BASELINE


def test_with_an_earlier_configuration(world: World) -> None:
    """A stage that was not there is due; what only moved its settings is told as such."""
    old = world.repo.commit({"cipipe.toml": CONFIG.split("[stages.dags]")[0]})
    world.repo.commit({"cipipe.toml": CONFIG.replace('context = "dbt"', 'context = "dbt"\nsmoke = ["dbt"]')})
    assert world.due(base=old) == {"image", "dags"}
    details = {stage.name: stage.detail for stage in world.plan(base=old).stages}
    assert details["image"].startswith("no file changed, but its settings did")
    assert details["dags"].startswith("the stage is not in")


def test_a_branch_with_its_merge_base(world: World, tmp_path: Path) -> None:
    fork = world.repo.head
    world.repo.git("branch", "side")
    world.repo.commit({"terraform/main.tf": "# main went on"})
    clone = World(world.repo.clone(tmp_path / "clone"))
    clone.repo.git("checkout", "--quiet", "side")
    clone.repo.commit({"dags/dag.py": "changed"})
    for env in ({}, gitlab(CI_COMMIT_REF_NAME="side", CI_COMMIT_BEFORE_SHA="0" * 40)):
        assert compared(clone, env=env) == Baseline("revision", fork)
        assert clone.due(offline=True, env=env) == {"dags"}


def test_a_merge_request_with_the_base_that_the_provider_names(world: World) -> None:
    base = world.repo.head
    world.repo.git("checkout", "--quiet", "-b", "side")
    world.repo.commit({"dags/dag.py": "changed"})
    env = gitlab(
        CI_PIPELINE_SOURCE="merge_request_event", CI_MERGE_REQUEST_IID="1", CI_MERGE_REQUEST_DIFF_BASE_SHA=base
    )
    assert compared(world, env=env) == Baseline("revision", base)
    assert world.due(offline=True, env=env) == {"dags"}


def test_a_push_to_the_default_branch_with_what_was_there_before(world: World) -> None:
    before = world.repo.head
    world.repo.commit({"dbt/model.sql": "select 2"})
    world.repo.commit({"dags/dag.py": "changed"})
    env = gitlab(CI_COMMIT_BEFORE_SHA=before)
    assert compared(world, env=env) == Baseline("revision", before)
    assert world.due(offline=True, env=env) == {"image", "dags"}


def test_a_forced_push_whose_old_commit_is_gone(world: World) -> None:
    env = gitlab(CI_COMMIT_BEFORE_SHA="f" * 40)
    assert compared(world, env=env) == Baseline("none")
    assert world.reasons(offline=True, env=env) == NO_BASELINE


def test_a_first_push_of_five_commits(world: World) -> None:
    for number in range(4):
        world.repo.commit({"dags/dag.py": str(number)})
    env = gitlab(CI_COMMIT_BEFORE_SHA="0" * 40)
    assert world.reasons(offline=True, env=env) == NO_BASELINE


def test_a_clone_of_depth_one_has_nothing_to_compare_with(world: World, tmp_path: Path) -> None:
    before = world.repo.head
    world.repo.git("checkout", "--quiet", "-b", "side")
    world.repo.commit({"dags/dag.py": "changed"})
    shallow = World(world.repo.clone(tmp_path / "shallow", "--depth=1", "--branch=side"))
    env = gitlab(CI_COMMIT_REF_NAME="side", CI_COMMIT_BEFORE_SHA=before)
    assert shallow.reasons(offline=True, env=env) == NO_BASELINE


def test_a_configuration_on_disk_that_is_not_the_committed_one(world: World) -> None:
    assert world.plan().warnings == ()
    world.repo.write({"cipipe.toml": CONFIG + "\n# changed\n"})
    assert world.plan().warnings == ("cipipe.toml differs from the commit; this plan uses the file on disk",)
    world.repo.git("rm", "--quiet", "--cached", "cipipe.toml")
    world.repo.git("commit", "--quiet", "-m", "x")
    assert "is not committed" in world.plan().warnings[0]


def refuse_dirty(world: World, **options: Any) -> None:
    planning.refuse_dirty(project.load(world.repo.root, ENV), world.planning(**options))


def test_a_run_on_a_dirty_work_tree(world: World) -> None:
    refuse_dirty(world)
    world.repo.write({"docs/page.md": "dirty", "untracked": ""})
    refuse_dirty(world)
    world.repo.write({b"dbt/" + name: "" for name in HOSTILE} | {b"dags/dag.py": None})
    with pytest.raises(RefusedError) as caught:
        refuse_dirty(world)
    assert (caught.value.id, caught.value.exit_status) == ("dirty-work-tree", 5)
    assert "dags/dag.py" in caught.value.message
    assert "and 2 more" in caught.value.message
    assert all(line.isprintable() for line in caught.value.message.splitlines())
    refuse_dirty(world, selected=frozenset({"iac"}))
    world.deploy()
    refuse_dirty(world)


def test_a_run_with_a_configuration_that_is_not_committed(world: World) -> None:
    world.repo.write({"cipipe.toml": CONFIG + "\n# changed\n"})
    with pytest.raises(RefusedError, match=r"cipipe\.toml"):
        refuse_dirty(world)


@pytest.mark.parametrize("path", ["dbt/packages/**", "dbt/**"])
def test_a_submodule_that_is_not_at_its_commit(tmp_path: Path, path: str) -> None:
    world = World.make(tmp_path / "repo")
    world.repo.commit({"cipipe.toml": CONFIG.replace('"dbt/**"', f'"{path}"')})
    inner = World.make(world.repo.root / "dbt/packages").repo
    world.repo.git("add", "dbt/packages")
    world.repo.git("commit", "--quiet", "-m", "x")
    refuse_dirty(world)
    inner.commit({"more": ""})
    with pytest.raises(RefusedError, match="dbt/packages"):
        refuse_dirty(world)


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
    world: World, sequence: int | None, provider: str, changed: bool, allowed: bool, refused: bool
) -> None:
    world.deploy(sequence=7, provider=provider, state=State.DEPLOYED)
    if changed:
        world.repo.commit({"dbt/model.sql": "select 2"})
    env = gitlab(**({"CI_PIPELINE_IID": str(sequence)} if sequence else {}))
    found, made = project.load(world.repo.root, ENV | env), world.planning(env=env)
    if not refused:
        refusals.refuse_older(found, made, allowed=allowed)
        return
    with pytest.raises(RefusedError) as caught:
        refusals.refuse_older(found, made, allowed=allowed)
    assert (caught.value.id, caught.value.exit_status) == ("older-pipeline", 5)
    assert "(7, this one is 6)" in caught.value.message


@pytest.mark.parametrize(("newest", "changed", "refused"), [(8, True, True), (8, False, False), (7, True, False)])
def test_after_a_newer_pipeline_for_which_nothing_was_due(
    world: World, newest: int, changed: bool, refused: bool
) -> None:
    """No record tells of it. Where nothing is due for this one either, nobody is asked."""
    world.deploy(sequence=5)
    if changed:
        world.repo.commit({"dbt/model.sql": "select 2"})
    env = gitlab(CI_PIPELINE_IID="7")
    found, made = project.load(world.repo.root, ENV | env), world.planning(env=env)
    asked: list[str] = []

    def told(provider: str) -> Newest:
        asked.append(provider)
        return Newest(1, provider, newest, "c" * 40, "https://ci/8")

    if refused:
        with pytest.raises(RefusedError) as caught:
            refusals.refuse_older(found, made, allowed=False, newest=told)
        assert (caught.value.id, caught.value.where) == ("older-pipeline", "https://ci/8")
    else:
        refusals.refuse_older(found, made, allowed=False, newest=told)
    assert asked == (["gitlab"] if changed else [])
    refusals.refuse_older(found, made, allowed=True, newest=told)
    assert asked == (["gitlab"] if changed else [])


def test_a_folder_that_is_no_repository_and_one_without_a_commit(tmp_path: Path) -> None:
    empty = World.make(tmp_path / "repo")
    empty.repo.git("checkout", "--quiet", "--orphan", "new")
    with pytest.raises(UsageError) as caught:
        empty.plan()
    assert caught.value.id == "git-no-commit"
