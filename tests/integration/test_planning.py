"""Change detection on real repositories: every way in which a path filter loses a change, or sees
one that is none.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cipipe.errors import StageError
from cipipe.model import Output, State
from cipipe.pipeline import project
from cipipe.pipeline.planning import plan as planning
from cipipe.pipeline.planning import snapshot
from cipipe.report import github as as_github
from cipipe.report import gitlab as as_gitlab
from cipipe.report import json as as_json
from cipipe.report import markdown as as_markdown
from cipipe.report import text as as_text
from support.deployed_repo import CONFIG, FILES, NOTHING_DUE, STAGES, World, gitlab
from support.git import ENV, HOSTILE, Repo

ALL = set(STAGES)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path / "repo")


def test_the_first_commit_of_all(world: World) -> None:
    assert world.reasons() == dict.fromkeys(STAGES, "due never-deployed") | {
        "default": "unchanged unchanged"
    }


def test_nothing_changed(world: World) -> None:
    world.deploy()
    assert world.reasons() == NOTHING_DUE
    world.repo.commit({"docs/page.md": "other words"})
    assert world.reasons() == NOTHING_DUE


def test_a_failed_push_and_then_one_that_touches_docs(world: World) -> None:
    world.deploy()
    world.repo.commit({"terraform/main.tf": "# 2"})
    world.deploy("iac", state=State.FAILED)
    world.repo.commit({"docs/page.md": "words 2"})
    assert world.reasons()["iac"] == "due not-finished"


def test_a_push_whose_pipeline_never_ran(world: World) -> None:
    world.deploy()
    world.repo.commit({"terraform/main.tf": "# 2"})
    world.repo.commit({"docs/page.md": "words 2"})
    assert world.reasons()["iac"] == "due changed"
    assert world.paths("iac") == {b"terraform/main.tf"}


def test_killed_and_run_again_on_the_same_commit(world: World) -> None:
    world.deploy()
    world.deploy("image", state=State.DEPLOYING)
    assert world.reasons()["image"] == "due not-finished"


def test_failed_half_way_and_reverted(world: World) -> None:
    world.deploy()
    world.repo.commit({"dbt/model.sql": "select 2"})
    world.deploy("image", state=State.FAILED)
    world.repo.git("revert", "--no-edit", "HEAD")
    assert world.reasons()["image"] == "due not-finished"


def test_there_and_back_in_one_push(world: World) -> None:
    world.deploy()
    world.repo.commit({"dbt/model.sql": "select 2", "dags/new.py": ""})
    world.repo.commit({"dbt/model.sql": "select 1", "dags/new.py": None})
    assert world.reasons() == NOTHING_DUE


def test_destroyed_and_the_same_commit_again(world: World) -> None:
    world.deploy()
    world.deploy("dags", state=State.DESTROYED)
    assert world.reasons()["dags"] == "due destroyed"


def link(path: Path) -> None:
    content = path.read_text()
    path.unlink()
    path.symlink_to(content)


def flatten(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


CHANGES: dict[str, tuple[Callable[[Repo], object], set[str]]] = {
    "moved between folders": (lambda r: (r.root / "terraform/x").rename(r.root / "dags/x"), {"iac", "dags"}),
    "deleted": (lambda r: r.write({"dags/dag.py": None}), {"dags"}),
    "empty file added": (lambda r: r.write({"dbt/empty": ""}), {"image"}),
    "mode": (lambda r: (r.root / "dbt/model.sql").chmod(0o755), {"image"}),
    "file to link": (lambda r: link(r.root / "terraform/x"), {"iac"}),
    "excluded": (lambda r: r.write({"terraform/a/README.md": "x", "terraform/b.md": ""}), set()),
    "nearly excluded": (lambda r: r.write({"terraform/a/README.md.tf": "x"}), {"iac"}),
    "near by": (lambda r: r.write({"dags2/x": "", "xdags/x": "", "docs/dags/x": "", "dags.py": ""}), set()),
    "everything gone": (lambda r: r.write({"dags/dag.py": None, "dbt/model.sql": None}), {"image", "dags"}),
    "folder to file": (lambda r: flatten(r.root / "dags"), {"dags"}),
    "setting": (lambda r: r.write({"cipipe.toml": CONFIG.replace('source = "dags"', 'source = "dags"\nprefix = "d/"')}), {"dags"}),
    "pattern": (lambda r: r.write({"cipipe.toml": CONFIG.replace('"dbt/**"', '"dbt/**", "absent/**"')}), {"image"}),
    "exclusion": (lambda r: r.write({"cipipe.toml": CONFIG.replace('"dbt/**"', '"dbt/**", "!dbt/x"')}), {"image"}),
    "declared version of a tool": (lambda r: r.write({"cipipe.toml": CONFIG.replace('source = "dags"', 'source = "dags"\nairflow_version = "2.10.3"')}), {"dags"}),
    "version file of a tool": (lambda r: r.write({"terraform/.terraform-version": "1.9.8"}), {"iac"}),
    "configuration elsewhere": (lambda r: r.write({"cipipe.toml": CONFIG + '\n[ledger]\nprefix = "l/"\n'}), set()),
}  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_change(world: World, change: Callable[[Repo], object], expected: set[str]) -> None:
    before = world.repo.head
    world.deploy()
    change(world.repo)
    world.repo.commit()
    assert world.due() == expected
    assert world.due(base=before, offline=True) == expected, "a commit as baseline says the same"


def test_an_empty_file_deleted(world: World) -> None:
    world.repo.commit({"dbt/empty": ""})
    world.deploy()
    world.repo.commit({"dbt/empty": None})
    assert (world.due(), world.paths("image")) == ({"image"}, {b"dbt/empty"})


@pytest.mark.parametrize("pattern", ["dbt/**", "dbt/packages/**", "dbt/*"])
def test_a_submodule_bumped_without_a_checkout(world: World, pattern: str) -> None:
    world.repo.write({"cipipe.toml": CONFIG.replace("dbt/**", pattern)})
    world.repo.git("add", "cipipe.toml")
    world.repo.add_submodule("dbt/packages", "1" * 40)
    world.repo.git("commit", "--quiet", "-m", "x")
    world.deploy()
    world.repo.add_submodule("dbt/packages", "2" * 40)
    world.repo.git("commit", "--quiet", "-m", "x")
    assert (world.due(), world.paths("image")) == ({"image"}, {b"dbt/packages"})


def test_a_variable(world: World) -> None:
    world.deploy(env={"BASE": "debian"})
    assert world.reasons() == NOTHING_DUE
    assert world.due(env={"BASE": "alpine"}) == {"image"}


def test_hostile_names(world: World) -> None:
    world.deploy()
    world.repo.commit({b"dbt/" + name: "" for name in HOSTILE})
    plan = world.plan()
    assert world.due() == {"image"}
    assert world.paths("image") == {b"dbt/" + name for name in HOSTILE}
    document = json.loads(as_json.plan(plan))
    assert len(document["stages"][1]["paths"]) == len(HOSTILE)
    for shown in (
        as_text.plan(plan),
        as_markdown.render(plan),
        as_gitlab.render(plan),
        as_github.render(plan),
    ):
        assert all(line.isprintable() for line in shown.split("\n"))
    assert not list(world.repo.root.rglob("executed"))


def test_thousands_of_files_in_one_folder_hide_none_in_another(world: World) -> None:
    world.deploy()
    world.repo.commit({f"dbt/{n}.sql": str(n) for n in range(3500)} | {"dags/new.py": ""})
    assert world.due() == {"image", "dags"}
    assert (len(world.paths("image")), world.paths("dags")) == (3500, {b"dags/new.py"})
    (image,) = [s for s in world.plan().stages if s.name == "image"]
    assert image.detail.startswith("3500 files changed since")


def test_a_dirty_work_tree_does_not_count_unless_asked_for(world: World) -> None:
    world.deploy()
    before = world.fingerprints()
    world.repo.write({"dbt/model.sql": "dirty", "dags/untracked.py": "", "terraform/main.tf": None})
    world.repo.git("add", "dbt")
    assert (world.fingerprints(), world.reasons()) == (before, NOTHING_DUE)
    assert world.due(worktree=True) == ALL
    assert world.paths("dags", worktree=True) == {b"dags/untracked.py"}


def test_inputs_that_changed_since(world: World) -> None:
    """Somebody deployed iac alone: what consumed its old outputs is due, by settings and by markers
    in its files.
    """
    world.deploy()
    assert world.ledger.outputs is not None
    world.ledger.outputs = {**world.ledger.outputs, "cluster": Output(value="new")}
    assert world.reasons() == NOTHING_DUE | {
        "dags": "due upstream",
        "default": "unchanged unchanged",
    }
    world.ledger.outputs = {
        **world.ledger.outputs,
        "cluster": Output(value="c"),
        "url": Output(value="new"),
    }
    assert world.reasons()["image"] == "due upstream"


def test_what_stands_behind_a_due_stage_is_conditional(world: World) -> None:
    world.deploy()
    world.repo.commit({"terraform/main.tf": "# 2"})
    assert world.reasons() == {
        "iac": "due changed",
        "image": "conditional upstream",
        "dags": "conditional upstream",
        "default": "unchanged unchanged",
    }


def test_a_record_that_cannot_be_read_is_no_plan(world: World) -> None:
    world.deploy()
    world.ledger.records["image"] = StageError("ledger-unreadable", "403")
    with pytest.raises(StageError, match="403"):
        world.plan()


def test_a_clone_of_depth_one_without_its_remote(world: World, tmp_path: Path) -> None:
    world.deploy()
    world.repo.commit({"dbt/model.sql": "select 2"})
    world.repo.commit({"docs/page.md": "words 2"})
    shallow = World(world.repo.clone(tmp_path / "shallow", "--depth=1"), world.ledger)
    shallow.repo.git("remote", "remove", "origin")
    assert shallow.fingerprints() == world.fingerprints()
    assert shallow.reasons() == world.reasons()
    assert shallow.due() == {"image"}


def test_a_merge_whose_second_parent_touched_the_dags(world: World) -> None:
    world.deploy()
    world.repo.git("checkout", "--quiet", "-b", "side")
    world.repo.commit({"dags/dag.py": "changed"})
    world.repo.git("checkout", "--quiet", "main")
    world.repo.commit({"docs/page.md": "words 2"})
    world.repo.git("merge", "--quiet", "--no-edit", "side")
    assert world.due(env=gitlab(CI_PIPELINE_SOURCE="schedule")) == {"dags"}


def test_tags(world: World) -> None:
    world.deploy()
    env = gitlab(CI_COMMIT_TAG="v1", CI_COMMIT_REF_NAME="v1")
    world.repo.git("tag", "v1")
    assert world.reasons(env=env) == NOTHING_DUE
    world.repo.commit({"dags/dag.py": "changed"})
    world.repo.git("tag", "v2")
    assert world.due(env=env) == {"dags"}


@pytest.mark.parametrize("before", ["0" * 40, "f" * 40])
def test_what_the_event_says_does_not_count_beside_a_ledger(world: World, before: str) -> None:
    world.deploy()
    world.repo.commit({"dags/dag.py": "changed"})
    for number in range(4):
        world.repo.commit({"docs/page.md": str(number)})
    assert world.reasons(env=gitlab(CI_COMMIT_BEFORE_SHA=before)) == world.reasons()
    assert world.due() == {"dags"}


@pytest.mark.parametrize("options", [(), ("--object-format=sha256",)], ids=["sha1", "sha256"])
def test_either_kind_of_repository(tmp_path: Path, options: tuple[str, ...]) -> None:
    world = World.make(tmp_path / "repo", *options)
    world.deploy()
    world.repo.commit({"dbt/model.sql": "select 2"})
    assert world.due() == {"image"}
    assert FILES["cipipe.toml"] == CONFIG


WORKSTREAMS = """
[stages.image-{name}]
kind = "image"
paths = ["{name}/dbt/**"]
context = "{name}/dbt"
repository = {{ output = "url_{name}" }}
needs = ["iac"]

[stages.dags-{name}]
kind = "dags"
paths = ["{name}/dags/**"]
source = "{name}/dags"
bucket = {{ output = "bucket" }}
prefix = "dags/{name}/"
needs = ["iac", "image-{name}"]
"""


@pytest.fixture
def workstreams(world: World) -> World:
    """Two more teams in the same repository, each with an image and DAGs of its own."""
    names = ("finance", "sales")
    files = {f"{n}/dbt/model.sql": "select 1" for n in names} | {
        f"{n}/dags/dag.py": "" for n in names
    }
    world.repo.commit(
        files | {"cipipe.toml": CONFIG + "".join(WORKSTREAMS.format(name=n) for n in names)}
    )
    world.deploy()
    for name in names:
        world.deploy(f"image-{name}", inputs=[f"url_{name}"])
        world.deploy(f"dags-{name}", inputs=["bucket"])
    return world


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (
            "finance/dbt/model.sql",
            {"image-finance": "due changed", "dags-finance": "conditional upstream"},
        ),
        ("sales/dags/dag.py", {"dags-sales": "due changed"}),
        ("dags/dag.py", {"dags": "due changed"}),
        ("finance/else", {"default": "due nothing-due"}),
    ],
)
def test_several_stages_of_one_kind(workstreams: World, path: str, status: dict[str, str]) -> None:
    workstreams.repo.commit({path: "changed"})
    found = {
        name: reason
        for name, reason in workstreams.reasons().items()
        if not reason.startswith("unchanged")
    }
    assert found == status


def test_several_stages_of_one_kind_have_places_of_their_own(workstreams: World) -> None:
    names = ["dags", "dags-finance", "dags-sales"]
    plan = workstreams.plan(forced=frozenset(names), selected=frozenset(names))
    assert [stage.name for stage in plan.stages] == names
    assert [stage.steps[3] for stage in plan.stages] == [
        "upload to s3://{bucket}/dags/",
        "upload to s3://{bucket}/dags/finance/",
        "upload to s3://{bucket}/dags/sales/",
    ]
    assert "due_dags-finance<<" in as_github.render(plan)
    assert set(json.loads(as_gitlab.render(plan))) >= {f"deploy:{name}" for name in names}


def test_a_partial_clone_is_planned_as_the_whole_one(world: World, tmp_path: Path) -> None:
    """Without contents, and without fetching any: nothing of the object store changes."""
    world.deploy()
    world.repo.commit({"dbt/model.sql": "select 2"})
    world.repo.git("config", "uploadpack.allowFilter", "true")
    partial = World(
        world.repo.clone(tmp_path / "partial", "--filter=blob:none", "--no-checkout"), world.ledger
    )
    partial.repo.write({"cipipe.toml": CONFIG})
    before = sorted((partial.repo.root / ".git/objects").rglob("*"))
    assert partial.fingerprints() == world.fingerprints()
    assert (partial.due(), partial.paths("image")) == ({"image"}, {b"dbt/model.sql"})
    assert sorted((partial.repo.root / ".git/objects").rglob("*")) == before
    partial.repo.git("remote", "remove", "origin")
    assert partial.due() == {"image"}


def test_a_bare_repository_and_a_second_work_tree(world: World, tmp_path: Path) -> None:
    world.repo.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "second"))
    second = World.__new__(World)
    second.repo, second.ledger = Repo.__new__(Repo), world.ledger
    second.repo.root = tmp_path / "second"
    assert second.fingerprints() == world.fingerprints()
    bare = world.repo.clone(tmp_path / "bare.git", "--bare")
    found = project.load(bare.root, ENV, world.repo.root / "cipipe.toml")
    shot = snapshot.read_snapshot(found)
    assert {n: p.fingerprint for n, p in shot.candidates.items()} == world.fingerprints()


def printed(world: World) -> dict[str, str]:
    """The steps of each stage, as a plan shows them."""
    found = project.load(world.repo.root, ENV)
    made = planning.shown(found, world.planning())
    return {stage.name: "\n".join(stage.steps) for stage in made.stages}


def test_outputs_of_a_stage_that_stays_as_it_is_are_shown(world: World) -> None:
    world.deploy()
    world.repo.commit({"dbt/model.sql": "select 2", "dags/dag.py": "changed"})
    steps = printed(world)
    assert "docker push u:" in steps["image"]
    assert "upload to s3://b/dags/" in steps["dags"]
    assert "{" not in steps["image"] + steps["dags"]


def test_outputs_of_a_stage_that_is_due_are_not_known_yet(world: World) -> None:
    world.deploy()
    world.repo.commit({"terraform/main.tf": "# 2", "dags/dag.py": "changed"})
    assert "upload to s3://{bucket}/dags/" in printed(world)["dags"]
