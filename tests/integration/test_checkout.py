"""The files of a commit in a folder of their own: links, submodules, what Git LFS keeps."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cipipe.errors import ProblemsError
from cipipe.stages.checkout import check_out
from support.git import Repo

WEIGHTS = b"\0weights" * 999
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize {len(WEIGHTS)}\n"


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.write({"infra/main.tf": "# first\n", "infra/run.sh": "#!/bin/sh\n"})
    made.write({b"caf\xe9": "x"})
    (made.root / "infra/run.sh").chmod(0o755)
    (made.root / "infra/link.tf").symlink_to("main.tf")
    (made.root / "infra/out").symlink_to("/nowhere")
    library = Repo(made.root / "infra/modules/common")
    library.commit({"common.tf": "# common\n"})
    made.commit()
    return made


def written(
    repo: Repo, folder: Path, needed: Callable[[bytes], bool] = lambda _: True
) -> dict[str, str]:
    """The files by name: contents, or where a link leads."""
    folder.mkdir()
    check_out(repo.repository(), repo.tree, folder, needed=needed)
    return {
        os.fsdecode(path.relative_to(folder)): (
            f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        )
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_all_files_are_those_of_the_commit(repo: Repo, tmp_path: Path) -> None:
    (repo.root / "infra/main.tf").write_text("# dirty\n")
    (repo.root / "infra/modules/common/common.tf").write_text("# dirty\n")
    (repo.root / "infra/untracked.tf").write_text("# new\n")
    assert written(repo, tmp_path / "there") == {
        "infra/main.tf": "# first\n",
        "infra/run.sh": "#!/bin/sh\n",
        "infra/link.tf": "-> main.tf",
        "infra/out": "-> /nowhere",
        "infra/modules/common/common.tf": "# common\n",
        os.fsdecode(b"caf\xe9"): "x",
    }
    assert (tmp_path / "there/infra/run.sh").stat().st_mode & 0o777 == 0o755


def test_what_is_not_here_is_an_error_where_it_is_needed(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"infra/model.bin": POINTER, "docs/video.bin": POINTER})
    (repo.root / "infra/modules/common/.git").rename(tmp_path / "elsewhere")
    with pytest.raises(ProblemsError) as caught:
        written(repo, tmp_path / "there", lambda path: path.startswith(b"infra/"))
    assert caught.value.id == "deployed-files-missing"
    assert sorted((problem.id, problem.where) for problem in caught.value.problems) == [
        ("git-lfs-pointer", "infra/model.bin"),
        ("git-submodule-missing", "infra/modules/common"),
    ]
    found = written(repo, tmp_path / "without", lambda _: False)
    assert "infra/model.bin" not in found
    assert found["infra/main.tf"] == "# first\n"


def test_what_git_lfs_keeps_is_there(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"infra/model.bin": POINTER})
    store = repo.root / ".git/lfs/objects" / SHA256[:2] / SHA256[2:4]
    store.mkdir(parents=True)
    (store / SHA256).write_bytes(WEIGHTS)
    found = written(repo, tmp_path / "there")
    assert found["infra/model.bin"] == WEIGHTS.decode()


def test_a_partial_clone(repo: Repo, tmp_path: Path) -> None:
    repo.git("config", "uploadpack.allowFilter", "true")
    partial = Repo(tmp_path / "partial")
    partial.git("remote", "add", "origin", f"file://{repo.root}")
    partial.git("config", "protocol.file.allow", "always")
    partial.git("fetch", "--quiet", "--filter=blob:none", "origin", "main")
    partial.git("update-ref", "HEAD", "FETCH_HEAD")
    with pytest.raises(ProblemsError) as caught:
        written(partial, tmp_path / "there", lambda path: path == b"infra/main.tf")
    (problem,) = caught.value.problems
    assert (problem.id, problem.where) == ("git-file-missing", "infra/main.tf")
