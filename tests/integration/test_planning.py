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
from cipipe.report import github as as_github
from cipipe.report import gitlab as as_gitlab
from support.deployment import CONFIG, NOTHING_DUE, STAGES, Deployment, gitlab
from support.git import ENV, Repo

ALL = set(STAGES)


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment.make(tmp_path / "repo")


def test_the_first_commit_of_all(deployment: Deployment) -> None:
    assert deployment.reasons() == dict.fromkeys(STAGES, "due never-deployed") | {
        "default": "unchanged unchanged"
    }


def test_nothing_changed(deployment: Deployment) -> None:
    deployment.deploy()
    assert deployment.reasons() == NOTHING_DUE
    deployment.repo.commit({"docs/page.md": "other words"})
    assert deployment.reasons() == NOTHING_DUE


def test_a_failed_push_and_then_one_that_touches_docs(deployment: Deployment) -> None:
    deployment.deploy()
    deployment.repo.commit({"terraform/main.tf": "# 2"})
    deployment.deploy("iac", state=State.FAILED)
    deployment.repo.commit({"docs/page.md": "words 2"})
    assert deployment.reasons()["iac"] == "due not-finished"


def test_a_push_whose_pipeline_never_ran(deployment: Deployment) -> None:
    deployment.deploy()
    deployment.repo.commit({"terraform/main.tf": "# 2"})
    deployment.repo.commit({"docs/page.md": "words 2"})
    assert deployment.reasons()["iac"] == "due changed"
    assert deployment.paths("iac") == {b"terraform/main.tf"}


def test_killed_and_run_again_on_the_same_commit(deployment: Deployment) -> None:
    deployment.deploy()
    deployment.deploy("image", state=State.DEPLOYING)
    assert deployment.reasons()["image"] == "due not-finished"


def test_failed_half_way_and_reverted(deployment: Deployment) -> None:
    deployment.deploy()
    deployment.repo.commit({"dbt/model.sql": "select 2"})
    deployment.deploy("image", state=State.FAILED)
    deployment.repo.git("revert", "--no-edit", "HEAD")
    assert deployment.reasons()["image"] == "due not-finished"


def test_there_and_back_in_one_push(deployment: Deployment) -> None:
    deployment.deploy()
    deployment.repo.commit({"dbt/model.sql": "select 2", "dags/new.py": ""})
    deployment.repo.commit({"dbt/model.sql": "select 1", "dags/new.py": None})
    assert deployment.reasons() == NOTHING_DUE


def test_destroyed_and_the_same_commit_again(deployment: Deployment) -> None:
    deployment.deploy()
    deployment.deploy("dags", state=State.DESTROYED)
    assert deployment.reasons()["dags"] == "due destroyed"


def link(path: Path) -> None:
    content = path.read_text()
    path.unlink()
    path.symlink_to(content)


def flatten(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


CHANGES: dict[str, tuple[Callable[[Repo], object], set[str]]] = {
    "moved between folders": (
        lambda r: (r.root / "terraform/x").rename(r.root / "dags/x"),
        {"iac", "dags"},
    ),
    "deleted": (lambda r: r.write({"dags/dag.py": None}), {"dags"}),
    "empty file added": (lambda r: r.write({"dbt/empty": ""}), {"image"}),
    "mode": (lambda r: (r.root / "dbt/model.sql").chmod(0o755), {"image"}),
    "file to link": (lambda r: link(r.root / "terraform/x"), {"iac"}),
    "excluded": (lambda r: r.write({"terraform/a/README.md": "x", "terraform/b.md": ""}), set()),
    "nearly excluded": (lambda r: r.write({"terraform/a/README.md.tf": "x"}), {"iac"}),
    "near by": (
        lambda r: r.write({"dags2/x": "", "xdags/x": "", "docs/dags/x": "", "dags.py": ""}),
        set(),
    ),
    "everything gone": (
        lambda r: r.write({"dags/dag.py": None, "dbt/model.sql": None}),
        {"image", "dags"},
    ),
    "folder to file": (lambda r: flatten(r.root / "dags"), {"dags"}),
    "setting": (
        lambda r: r.write(
            {"cipipe.toml": CONFIG.replace('source = "dags"', 'source = "dags"\nprefix = "d/"')}
        ),
        {"dags"},
    ),
    "pattern": (
        lambda r: r.write({"cipipe.toml": CONFIG.replace('"dbt/**"', '"dbt/**", "absent/**"')}),
        {"image"},
    ),
    "exclusion": (
        lambda r: r.write({"cipipe.toml": CONFIG.replace('"dbt/**"', '"dbt/**", "!dbt/x"')}),
        {"image"},
    ),
    "declared version of a tool": (
        lambda r: r.write(
            {
                "cipipe.toml": CONFIG.replace(
                    'source = "dags"', 'source = "dags"\nairflow_version = "2.10.3"'
                )
            }
        ),
        {"dags"},
    ),
    "version file of a tool": (
        lambda r: r.write({"terraform/.terraform-version": "1.9.8"}),
        {"iac"},
    ),
    "configuration elsewhere": (
        lambda r: r.write({"cipipe.toml": CONFIG + '\n[ledger]\nprefix = "l/"\n'}),
        set(),
    ),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_change(
    deployment: Deployment, change: Callable[[Repo], object], expected: set[str]
) -> None:
    before = deployment.repo.head
    deployment.deploy()
    change(deployment.repo)
    deployment.repo.commit()
    assert deployment.due() == expected
    assert deployment.due(base=before, offline=True) == expected, (
        "a commit as baseline says the same"
    )


def test_an_empty_file_deleted(deployment: Deployment) -> None:
    deployment.repo.commit({"dbt/empty": ""})
    deployment.deploy()
    deployment.repo.commit({"dbt/empty": None})
    assert (deployment.due(), deployment.paths("image")) == ({"image"}, {b"dbt/empty"})


def test_a_variable(deployment: Deployment) -> None:
    deployment.deploy(env={"BASE": "debian"})
    assert deployment.reasons() == NOTHING_DUE
    assert deployment.due(env={"BASE": "alpine"}) == {"image"}


def test_thousands_of_files_in_one_folder_hide_none_in_another(deployment: Deployment) -> None:
    deployment.deploy()
    deployment.repo.commit({f"dbt/{n}.sql": str(n) for n in range(3500)} | {"dags/new.py": ""})
    assert deployment.due() == {"image", "dags"}
    assert (len(deployment.paths("image")), deployment.paths("dags")) == (3500, {b"dags/new.py"})
    (image,) = [s for s in deployment.plan().stages if s.name == "image"]
    assert image.detail.startswith("3500 files changed since")


def test_a_dirty_work_tree_does_not_count_unless_asked_for(deployment: Deployment) -> None:
    deployment.deploy()
    before = deployment.fingerprints()
    deployment.repo.write(
        {"dbt/model.sql": "dirty", "dags/untracked.py": "", "terraform/main.tf": None}
    )
    deployment.repo.git("add", "dbt")
    assert (deployment.fingerprints(), deployment.reasons()) == (before, NOTHING_DUE)
    assert deployment.due(worktree=True) == ALL
    assert deployment.paths("dags", worktree=True) == {b"dags/untracked.py"}


def test_inputs_that_changed_since(deployment: Deployment) -> None:
    """Somebody deployed iac alone: what consumed its old outputs is due, by settings and by markers
    in its files.
    """
    deployment.deploy()
    assert deployment.ledger.outputs is not None
    deployment.ledger.outputs = {**deployment.ledger.outputs, "cluster": Output(value="new")}
    assert deployment.reasons() == NOTHING_DUE | {
        "dags": "due upstream",
        "default": "unchanged unchanged",
    }
    deployment.ledger.outputs = {
        **deployment.ledger.outputs,
        "cluster": Output(value="c"),
        "url": Output(value="new"),
    }
    assert deployment.reasons()["image"] == "due upstream"


def test_what_needs_a_due_stage_is_conditional(deployment: Deployment) -> None:
    deployment.deploy()
    deployment.repo.commit({"terraform/main.tf": "# 2"})
    assert deployment.reasons() == {
        "iac": "due changed",
        "image": "conditional upstream",
        "dags": "conditional upstream",
        "default": "unchanged unchanged",
    }


def test_a_record_that_cannot_be_read_is_no_plan(deployment: Deployment) -> None:
    deployment.deploy()
    deployment.ledger.records["image"] = StageError("ledger-unreadable", "403")
    with pytest.raises(StageError, match="403"):
        deployment.plan()


def test_a_merge_whose_second_parent_touched_the_dags(deployment: Deployment) -> None:
    deployment.deploy()
    deployment.repo.git("checkout", "--quiet", "-b", "side")
    deployment.repo.commit({"dags/dag.py": "changed"})
    deployment.repo.git("checkout", "--quiet", "main")
    deployment.repo.commit({"docs/page.md": "words 2"})
    deployment.repo.git("merge", "--quiet", "--no-edit", "side")
    assert deployment.due(env=gitlab(CI_PIPELINE_SOURCE="schedule")) == {"dags"}


def test_tags(deployment: Deployment) -> None:
    deployment.deploy()
    env = gitlab(CI_COMMIT_TAG="v1", CI_COMMIT_REF_NAME="v1")
    deployment.repo.git("tag", "v1")
    assert deployment.reasons(env=env) == NOTHING_DUE
    deployment.repo.commit({"dags/dag.py": "changed"})
    deployment.repo.git("tag", "v2")
    assert deployment.due(env=env) == {"dags"}


@pytest.mark.parametrize("before", ["0" * 40, "f" * 40])
def test_what_the_event_says_does_not_count_beside_a_ledger(
    deployment: Deployment, before: str
) -> None:
    deployment.deploy()
    deployment.repo.commit({"dags/dag.py": "changed"})
    for number in range(4):
        deployment.repo.commit({"docs/page.md": str(number)})
    assert deployment.reasons(env=gitlab(CI_COMMIT_BEFORE_SHA=before)) == deployment.reasons()
    assert deployment.due() == {"dags"}


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
def workstreams(deployment: Deployment) -> Deployment:
    """Two more teams in the same repository, each with an image and DAGs of its own."""
    names = ("finance", "sales")
    files = {f"{n}/dbt/model.sql": "select 1" for n in names} | {
        f"{n}/dags/dag.py": "" for n in names
    }
    deployment.repo.commit(
        files | {"cipipe.toml": CONFIG + "".join(WORKSTREAMS.format(name=n) for n in names)}
    )
    deployment.deploy()
    for name in names:
        deployment.deploy(f"image-{name}", inputs=[f"url_{name}"])
        deployment.deploy(f"dags-{name}", inputs=["bucket"])
    return deployment


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
def test_several_stages_of_one_kind(
    workstreams: Deployment, path: str, status: dict[str, str]
) -> None:
    workstreams.repo.commit({path: "changed"})
    found = {
        name: reason
        for name, reason in workstreams.reasons().items()
        if not reason.startswith("unchanged")
    }
    assert found == status


def test_several_stages_of_one_kind_have_places_of_their_own(workstreams: Deployment) -> None:
    names = ["dags", "dags-finance", "dags-sales"]
    plan = workstreams.plan(forced=frozenset(names), selected=frozenset(names))
    assert [stage.name for stage in plan.stages] == names
    assert [stage.steps[3] for stage in plan.stages] == [
        "upload to s3://{bucket}/dags/",
        "upload to s3://{bucket}/dags/finance/",
        "upload to s3://{bucket}/dags/sales/",
    ]
    assert f"\n{json.dumps([names])}\n" in as_github.render(plan)
    assert set(json.loads(as_gitlab.render(plan))) >= {f"deploy:{name}" for name in names}


def printed(deployment: Deployment) -> dict[str, str]:
    """The steps of each stage, as a plan shows them."""
    found = project.load(deployment.repo.root, ENV)
    made = planning.shown(found, deployment.planning())
    return {stage.name: "\n".join(stage.steps) for stage in made.stages}


def test_outputs_of_a_stage_that_stays_as_it_is_are_shown(deployment: Deployment) -> None:
    deployment.deploy()
    deployment.repo.commit({"dbt/model.sql": "select 2", "dags/dag.py": "changed"})
    steps = printed(deployment)
    assert "docker push u:" in steps["image"]
    assert "upload to s3://b/dags/" in steps["dags"]
    assert "{" not in steps["image"] + steps["dags"]


def test_outputs_of_a_stage_that_is_due_are_not_known_yet(deployment: Deployment) -> None:
    deployment.deploy()
    deployment.repo.commit({"terraform/main.tf": "# 2", "dags/dag.py": "changed"})
    assert "upload to s3://{bucket}/dags/" in printed(deployment)["dags"]
