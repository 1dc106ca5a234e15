"""Git LFS pointers in a commit: their content is taken from the clone, and only where it is the
right one.
"""

import hashlib
from pathlib import Path

import pytest

from cipipe.tools.git import lfs
from support.git import Repo
from support.shop import OUTPUTS, Cli, Shop

BODY = b"a,b\n1,2\n" * 500
SHA256 = hashlib.sha256(BODY).hexdigest()
POINTER = (
    f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize {len(BODY)}\n".encode()
)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.commit({"data/big.csv": POINTER, "data/small.csv": b"1\n"})
    return made


def store(repo: Repo, body: bytes) -> None:
    repo.write({f".git/lfs/objects/{SHA256[:2]}/{SHA256[2:4]}/{SHA256}": body})


def read(repo: Repo) -> tuple[dict[bytes, bytes], list[str]]:
    found, wrong = lfs.contents(
        repo.repository(), {b"data/big.csv": POINTER, b"data/small.csv": b"1\n"}
    )
    return found, [f"{problem.id} {problem.where}" for problem in wrong]


def test_content_comes_from_the_store_of_the_clone(repo: Repo) -> None:
    store(repo, BODY)
    assert read(repo) == ({b"data/big.csv": BODY, b"data/small.csv": b"1\n"}, [])


def test_content_comes_from_the_store_that_work_trees_share(repo: Repo, tmp_path: Path) -> None:
    store(repo, BODY)
    repo.git("worktree", "add", "--quiet", str(tmp_path / "other"))
    other = Repo.__new__(Repo)
    other.root = tmp_path / "other"
    assert read(other)[1] == []


def test_content_comes_from_the_work_tree(repo: Repo) -> None:
    repo.write({"data/big.csv": BODY})
    assert read(repo)[0][b"data/big.csv"] == BODY


def test_other_content_of_the_same_size_is_refused(repo: Repo) -> None:
    store(repo, BODY.replace(b"1", b"7"))
    repo.write({"data/big.csv": BODY.replace(b"2", b"8")})
    assert read(repo)[1] == ["git-lfs-pointer data/big.csv"]


def test_content_that_an_extension_changed_comes_from_the_work_tree_alone(repo: Repo) -> None:
    packed = BODY[::-1]
    stored, original = hashlib.sha256(packed).hexdigest(), hashlib.sha256(BODY[:-3]).hexdigest()
    text = POINTER.replace(b"oid", f"ext-0-turn sha256:{original}\noid".encode()).replace(
        SHA256.encode(), stored.encode()
    )
    repo.write(
        {f".git/lfs/objects/{stored[:2]}/{stored[2:4]}/{stored}": packed, "data/big.csv": packed}
    )
    assert lfs.contents(repo.repository(), {b"data/big.csv": text})[1] != []

    repo.write({"data/big.csv": BODY[:-3]})
    assert lfs.contents(repo.repository(), {b"data/big.csv": text}) == (
        {b"data/big.csv": BODY[:-3]},
        [],
    )


@pytest.mark.parametrize("path", ["dags/seeds/big.csv", "requirements.txt", "plugins/lib.whl"])
def test_a_pointer_is_never_uploaded(path: str, shop: Shop, cipipe: Cli) -> None:
    settings = 'source = "dags"\nrequirements = "requirements.txt"\nplugins = "plugins"\n'
    config = (shop.repo.root / "cipipe.toml").read_text().replace('source = "dags"\n', settings)
    config = config.replace('["dags/**"]', '["dags/**", "plugins/**", "requirements.txt"]')
    shop.commit(
        {"requirements.txt": "", "plugins/a.py": "", "cipipe.toml": config} | {path: POINTER}
    )
    shop.apply(**OUTPUTS)

    assert cipipe("dags", "deploy") == 4
    assert path in cipipe.err
    assert "git-lfs-pointer" in cipipe.err
    assert shop.bodies() == {}

    store(shop.repo, BODY)
    assert cipipe("dags", "deploy") == 0, cipipe.err
    key = {"requirements.txt": "requirements.txt", "plugins/lib.whl": "plugins.zip"}.get(path, path)
    assert BODY in shop.bodies()[key]
