"""What a build context holds: files of submodules, what Git LFS keeps, and errors for what is not
in the clone.
"""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from cipipe.errors import ProblemsError, StageError
from cipipe.stages import image
from cipipe.stages.image.build_context import build_context
from cipipe.stages.settings import Stage
from support.contexts import stage_context
from support.git import Repo, files

WEIGHTS = b"\0weights" * 999
POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    f"oid sha256:{hashlib.sha256(WEIGHTS).hexdigest()}\nsize {len(WEIGHTS)}\n"
)


def packed(
    repo: Repo, *paths: str, context: str = "app", dockerfile: str = "Dockerfile"
) -> dict[str, bytes | str]:
    """The files of the context by name: contents, or where a link leads."""
    paths = paths or ("app/**",)
    settings = image.Settings(context=context, repository="r", dockerfile=dockerfile)
    stage_of = stage_context(
        stage=Stage("image", "image", settings, paths=paths),
        repository=repo.repository(),
        entries=tuple(files(repo.repository(), repo.tree, *paths)),
        commit_time=0,
    )
    with tarfile.open(fileobj=io.BytesIO(build_context(stage_of).tar())) as tar:
        return {m.name: m.linkname if m.issym() else tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]


def refused(repo: Repo, *paths: str, **settings: str) -> list[tuple[str, str]]:
    with pytest.raises(ProblemsError) as caught:
        packed(repo, *paths, **settings)
    assert caught.value.id == "image-context-incomplete"
    return [(problem.id, problem.where) for problem in caught.value.problems]


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A repository whose context has a submodule, which has one of its own."""
    made = Repo(tmp_path / "repo")
    made.write({"app/Dockerfile": "FROM scratch\nCOPY . /\n", "app/main.py": "print()\n"})
    library = Repo(made.root / "app/libs/common")
    nested = Repo(library.root / "vendor/deep")
    nested.commit({"deep.txt": "deep\n"})
    library.commit({"common.py": "x = 1\n", "notes.md": "notes\n"})
    (library.root / "link").symlink_to("common.py")
    library.commit()
    made.commit()
    return made


def test_files_of_submodules_are_part_of_the_context(repo: Repo) -> None:
    assert packed(repo) == {
        "Dockerfile": b"FROM scratch\nCOPY . /\n",
        "main.py": b"print()\n",
        "libs/common/common.py": b"x = 1\n",
        "libs/common/notes.md": b"notes\n",
        "libs/common/link": "common.py",
        "libs/common/vendor/deep/deep.txt": b"deep\n",
    }


def test_excluded_paths_apply_to_submodules_too(repo: Repo) -> None:
    found = packed(repo, "app/**", "!app/**/*.md", "!app/libs/common/vendor/**")
    assert found.keys() == {"Dockerfile", "main.py", "libs/common/common.py", "libs/common/link"}


def test_a_path_that_names_the_submodule_alone(repo: Repo) -> None:
    found = packed(repo, "app/Dockerfile", "app/libs/common")
    assert "libs/common/common.py" in found
    assert "main.py" not in found


def test_a_context_inside_a_submodule(repo: Repo) -> None:
    assert packed(repo, "app/libs/**", context="app/libs/common/vendor") == {
        "deep/deep.txt": b"deep\n"
    }


def test_the_commit_of_a_submodule_counts_and_not_its_checkout(repo: Repo) -> None:
    library = Repo(repo.root / "app/libs/common")
    library.commit({"common.py": "x = 2\n"})
    assert packed(repo)["libs/common/common.py"] == b"x = 1\n"


def test_a_submodule_that_is_not_checked_out_is_refused(repo: Repo, tmp_path: Path) -> None:
    clone = repo.clone(tmp_path / "clone")
    assert refused(clone) == [("git-submodule-missing", "app/libs/common")]
    assert refused(clone, "app/libs/**", context="app/libs/common/vendor") == [
        ("git-submodule-missing", "app/libs/common")
    ]

    Repo(clone.root / "app/libs/common").commit({"other.py": ""})
    assert refused(clone) == [("git-submodule-missing", "app/libs/common")]


def test_a_nested_submodule_that_is_not_checked_out_is_refused(repo: Repo, tmp_path: Path) -> None:
    clone = repo.clone(tmp_path / "clone")
    Repo(repo.root / "app/libs/common").clone(clone.root / "app/libs/common")
    assert refused(clone) == [("git-submodule-missing", "app/libs/common/vendor/deep")]


def test_a_submodule_that_is_ignored_need_not_be_there(repo: Repo, tmp_path: Path) -> None:
    clone = repo.clone(tmp_path / "clone")
    clone.commit({"app/.dockerignore": "libs\n"})
    assert packed(clone).keys() == {"Dockerfile", "main.py", ".dockerignore"}
    clone.commit({"app/.dockerignore": "libs\n!libs/common/common.py\n"})
    assert refused(clone) == [("git-submodule-missing", "app/libs/common")]


@pytest.mark.parametrize("name", ["common.py", "new.py"])
def test_a_submodule_with_changes_is_refused(repo: Repo, name: str) -> None:
    Repo(repo.root / "app/libs/common").write({name: "changed\n"})
    assert refused(repo) == [("git-submodule-dirty", "app/libs/common")]


def test_what_git_lfs_keeps_takes_the_place_of_its_pointer(repo: Repo) -> None:
    library = Repo(repo.root / "app/libs/common")
    library.commit({"model.bin": POINTER})
    repo.commit({"app/model.bin": POINTER})
    assert refused(repo) == [
        ("git-lfs-pointer", "app/libs/common/model.bin"),
        ("git-lfs-pointer", "app/model.bin"),
    ]

    digest = hashlib.sha256(WEIGHTS).hexdigest()
    for one in (repo, library):
        one.write({f".git/lfs/objects/{digest[:2]}/{digest[2:4]}/{digest}": WEIGHTS})
    found = packed(repo)
    assert found["model.bin"] == found["libs/common/model.bin"] == WEIGHTS


def test_an_ignored_pointer_need_not_be_there(repo: Repo) -> None:
    repo.commit({"app/data/big.bin": POINTER, "app/.dockerignore": "data\n"})
    assert "data/big.bin" not in packed(repo)


def test_a_context_without_files(repo: Repo) -> None:
    with pytest.raises(StageError, match="none of the stage's files is in web") as caught:
        packed(repo, context="web")
    assert caught.value.id == "image-context-missing"
