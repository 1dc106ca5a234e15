"""Plans of other repositories than a full clone: shallow, partial, bare ones, further work trees,
submodules, hostile names, both kinds of object ids.
"""

import json
from pathlib import Path

import pytest

from cipipe.pipeline import project
from cipipe.pipeline.planning import snapshot
from cipipe.report import github as as_github
from cipipe.report import gitlab as as_gitlab
from cipipe.report import json as as_json
from cipipe.report import markdown as as_markdown
from cipipe.report import text as as_text
from support.deployment import CONFIG, FILES, Deployment
from support.git import ENV, HOSTILE, Repo


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment.make(tmp_path / "repo")


@pytest.mark.parametrize("pattern", ["dbt/**", "dbt/packages/**", "dbt/*"])
def test_a_submodule_bumped_without_a_checkout(deployment: Deployment, pattern: str) -> None:
    deployment.repo.write({"cipipe.toml": CONFIG.replace("dbt/**", pattern)})
    deployment.repo.git("add", "cipipe.toml")
    deployment.repo.add_submodule("dbt/packages", "1" * 40)
    deployment.repo.git("commit", "--quiet", "-m", "x")
    deployment.deploy()
    deployment.repo.add_submodule("dbt/packages", "2" * 40)
    deployment.repo.git("commit", "--quiet", "-m", "x")
    assert (deployment.due(), deployment.paths("image")) == ({"image"}, {b"dbt/packages"})


def test_hostile_names(deployment: Deployment) -> None:
    deployment.deploy()
    deployment.repo.commit({b"dbt/" + name: "" for name in HOSTILE})
    plan = deployment.plan()
    assert deployment.due() == {"image"}
    assert deployment.paths("image") == {b"dbt/" + name for name in HOSTILE}
    document = json.loads(as_json.plan(plan))
    assert len(document["stages"][1]["paths"]) == len(HOSTILE)
    for shown in (
        as_text.plan(plan),
        as_markdown.render(plan),
        as_gitlab.render(plan),
        as_github.render(plan),
    ):
        assert all(line.isprintable() for line in shown.split("\n"))
    assert not list(deployment.repo.root.rglob("executed"))


def test_a_clone_of_depth_one_without_its_remote(deployment: Deployment, tmp_path: Path) -> None:
    deployment.deploy()
    deployment.repo.commit({"dbt/model.sql": "select 2"})
    deployment.repo.commit({"docs/page.md": "words 2"})
    shallow = Deployment(
        deployment.repo.clone(tmp_path / "shallow", "--depth=1"), deployment.ledger
    )
    shallow.repo.git("remote", "remove", "origin")
    assert shallow.fingerprints() == deployment.fingerprints()
    assert shallow.reasons() == deployment.reasons()
    assert shallow.due() == {"image"}


@pytest.mark.parametrize("options", [(), ("--object-format=sha256",)], ids=["sha1", "sha256"])
def test_either_kind_of_repository(tmp_path: Path, options: tuple[str, ...]) -> None:
    deployment = Deployment.make(tmp_path / "repo", *options)
    deployment.deploy()
    deployment.repo.commit({"dbt/model.sql": "select 2"})
    assert deployment.due() == {"image"}
    assert FILES["cipipe.toml"] == CONFIG


def test_a_partial_clone_is_planned_as_the_whole_one(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Without contents, and without fetching any: nothing of the object store changes."""
    deployment.deploy()
    deployment.repo.commit({"dbt/model.sql": "select 2"})
    deployment.repo.git("config", "uploadpack.allowFilter", "true")
    partial = Deployment(
        deployment.repo.clone(tmp_path / "partial", "--filter=blob:none", "--no-checkout"),
        deployment.ledger,
    )
    partial.repo.write({"cipipe.toml": CONFIG})
    before = sorted((partial.repo.root / ".git/objects").rglob("*"))
    assert partial.fingerprints() == deployment.fingerprints()
    assert (partial.due(), partial.paths("image")) == ({"image"}, {b"dbt/model.sql"})
    assert sorted((partial.repo.root / ".git/objects").rglob("*")) == before
    partial.repo.git("remote", "remove", "origin")
    assert partial.due() == {"image"}


def test_a_bare_repository_and_a_second_work_tree(deployment: Deployment, tmp_path: Path) -> None:
    deployment.repo.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "second"))
    second = Deployment.__new__(Deployment)
    second.repo, second.ledger = Repo.__new__(Repo), deployment.ledger
    second.repo.root = tmp_path / "second"
    assert second.fingerprints() == deployment.fingerprints()
    bare = deployment.repo.clone(tmp_path / "bare.git", "--bare")
    found = project.load(bare.root, ENV, deployment.repo.root / "cipipe.toml")
    shot = snapshot.read_snapshot(found)
    assert {n: p.fingerprint for n, p in shot.candidates.items()} == deployment.fingerprints()
