"""`.cipipe/` never shows in the work tree; the bootstrap's root is cipipe's own, or one that a
setting names.
"""

import os
import stat
from pathlib import Path

import pytest

from cipipe.errors import StageError, UsageError
from cipipe.pipeline.bootstrap import root as bootstrap_root
from cipipe.pipeline.project import Project, load
from cipipe.tools.own_folder import own_folder
from support.configurations import HEAD
from support.git import ENV, Repo

CONFIG = (
    HEAD
    + """\
[stages.default]
kind = "command"
when = "always"
run = [["true"]]
"""
)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repository")
    made.commit({"cipipe.toml": CONFIG})
    return made


def project(repo: Repo) -> Project:
    return load(repo.root, ENV)


def untracked(repo: Repo) -> str:
    return repo.git("status", "--porcelain", "--untracked-files=all")


def test_git_sees_nothing_of_it(repo: Repo) -> None:
    folder = own_folder(repo.root)
    (folder / "sandbox").mkdir()
    (folder / "sandbox/sandbox.json").write_text("{}")
    assert untracked(repo) == ""
    repo.git("add", "--all")
    assert repo.git("diff", "--cached", "--name-only") == ""
    assert own_folder(repo.root) == folder


def test_what_somebody_wrote_there_stays(repo: Repo) -> None:
    (repo.root / ".cipipe").mkdir()
    (repo.root / ".cipipe/.gitignore").write_text("/docker/\n")
    assert (own_folder(repo.root) / ".gitignore").read_text() == "/docker/\n"


@pytest.mark.parametrize("made_before", [True, False])
def test_others_may_not_write_there(repo: Repo, made_before: bool) -> None:
    before = os.umask(0)
    try:
        if made_before:
            (repo.root / ".cipipe").mkdir()
        folder = own_folder(repo.root)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_a_file_in_its_place(repo: Repo) -> None:
    (repo.root / ".cipipe").write_text("")
    with pytest.raises(StageError) as caught:
        own_folder(repo.root)
    assert (caught.value.id, caught.value.where) == (
        "folder-unwritable",
        str(repo.root / ".cipipe"),
    )


# --- the bootstrap's root ------------------------------------------------------------------------

TEAMS_OWN = 'resource "aws_sns_topic" "the_teams_own" { name = "the-teams-own" }\n'


def chosen(repo: Repo) -> tuple[Path, list[str]]:
    said: list[str] = []
    return bootstrap_root.chosen(project(repo), said.append), said


def test_a_project_without_a_root_gets_cipipes_own(repo: Repo) -> None:
    assert chosen(repo) == (bootstrap_root.SHIPPED, [])
    with bootstrap_root.prepared(bootstrap_root.SHIPPED) as folder:
        assert bootstrap_root.SHIPPED not in (folder, *folder.parents)
        assert {file.name for file in folder.glob("*.tf")} == {
            file.name for file in bootstrap_root.SHIPPED.glob("*.tf")
        }
        assert 'output "deploy_role_arn"' in (folder / "outputs.tf").read_text()
    assert not folder.exists()


def test_a_folder_of_the_teams_own_is_not_applied(repo: Repo) -> None:
    repo.commit({"terraform/bootstrap/main.tf": TEAMS_OWN})
    root, said = chosen(repo)
    assert root == bootstrap_root.SHIPPED
    assert len(said) == 1
    assert "terraform/bootstrap is not applied" in said[0]


@pytest.mark.parametrize("changed", [False, True])
def test_a_copy_of_cipipes_own(repo: Repo, changed: bool) -> None:
    copy = {
        f"terraform/bootstrap/{file.name}": file.read_text()
        for file in bootstrap_root.SHIPPED.glob("*.tf")
    }
    repo.commit(copy)
    if not changed:
        assert chosen(repo) == (bootstrap_root.SHIPPED, [])
        return
    repo.write({"terraform/bootstrap/more.tf": TEAMS_OWN})
    with pytest.raises(UsageError) as caught:
        chosen(repo)
    assert caught.value.id == "bootstrap-root-unnamed"


def test_a_root_that_is_set_is_used_in_place(repo: Repo) -> None:
    repo.commit(
        {"cipipe.toml": CONFIG + '[bootstrap]\nroot = "account"\n', "account/main.tf": TEAMS_OWN}
    )
    root, said = chosen(repo)
    assert (root, said) == (repo.root / "account", [])
    with bootstrap_root.prepared(root) as folder:
        assert folder == root
    with pytest.raises(UsageError) as caught:
        bootstrap_root.refuse_other_outputs(project(repo), frozenset({"topic"}))
    assert caught.value.id == "bootstrap-root-outputs"
    bootstrap_root.refuse_other_outputs(project(repo), frozenset({"deploy_role_arn"}))


@pytest.mark.parametrize("root", ["nowhere", "docs"])
def test_a_root_that_is_named_has_to_be_one(repo: Repo, root: str) -> None:
    repo.commit({"cipipe.toml": CONFIG + f'[bootstrap]\nroot = "{root}"\n', "docs/README.md": ""})
    with pytest.raises(UsageError) as caught:
        chosen(repo)
    assert (caught.value.id, caught.value.where) == ("bootstrap-root-missing", "bootstrap.root")


def test_the_root_is_part_of_the_package() -> None:
    """Beside the modules, tracked, and not left out by what builds the wheel."""
    top = Path(__file__).parents[2]
    tracked = Repo.__new__(Repo)
    tracked.root = top
    files = tracked.git("ls-files", "--", "cipipe/bootstrap").splitlines()
    assert "cipipe/bootstrap/.terraform.lock.hcl" in files
    assert {Path(file).name for file in files if Path(file).parent.name == "bootstrap"} >= {
        "roles.tf",
        "outputs.tf",
    }
    assert top / "cipipe/bootstrap" == bootstrap_root.SHIPPED
