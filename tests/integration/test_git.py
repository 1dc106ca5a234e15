"""The git client, on real repositories: names as bytes, nothing of the caller's environment,
nothing of theirs changed.
"""

import hashlib
import os
import shlex
import shutil
from pathlib import Path

import pytest

from cipipe.errors import UsageError
from cipipe.tools import process
from cipipe.tools.git import client as git
from cipipe.tools.git.client import Entry, Repository
from support.git import ENV, HOSTILE, Repo, changed, files


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.commit({"top": "1", "a/one": "2", "a/b/two": "3"})
    return made


def paths(entries: list[Entry]) -> list[bytes]:
    return [entry.path for entry in entries]


def test_entries(repo: Repo) -> None:
    client = repo.repository()
    assert paths(files(client, repo.tree)) == [b"a/b/two", b"a/one", b"top"]
    assert paths(files(client, repo.tree, "a/b/**")) == [b"a/b/two"]
    assert paths(files(client, repo.tree, "top", "absent")) == [b"top"]
    tree = client.trees([repo.tree.encode()])[0]
    assert tree.listing() == [
        (b"40000", b"a", bytes.fromhex(repo.git("rev-parse", "HEAD:a"))),
        (b"100644", b"top", hashlib.sha1(b"blob 1\x001", usedforsecurity=False).digest()),
    ]
    assert tree.folders() == [(b"a", repo.git("rev-parse", "HEAD:a").encode())]
    folder, top = Entry(b"040000", b"1" * 40, b"a"), files(client, repo.tree, "top")[0]
    assert (folder.is_blob, folder.is_tree) == (False, True)
    assert (top.is_blob, top.is_tree) == (True, False)


def test_a_tree_that_is_not_here_is_an_error(repo: Repo) -> None:
    for name in ("0" * 40, repo.head, repo.git("rev-parse", "HEAD:top")):
        with pytest.raises(UsageError) as caught:
            repo.repository().trees([name.encode()])
        assert caught.value.id == "git-tree-missing"


def test_many_questions_at_once(repo: Repo) -> None:
    """More than fits into a pipe, on either side."""
    found = repo.repository().objects(["HEAD:a/one"] * 20_000)
    assert [o and o.body for o in found] == [b"2"] * 20_000


def test_entries_do_not_depend_on_the_working_folder(repo: Repo) -> None:
    below = Repository(repo.root / "a", ENV)
    assert paths(files(below, repo.tree)) == [b"a/b/two", b"a/one", b"top"]


def test_hostile_names(repo: Repo) -> None:
    old = repo.tree
    repo.commit({b"x/" + name: name for name in HOSTILE})
    client = repo.repository()
    expected = sorted(b"x/" + name for name in HOSTILE)
    assert sorted(paths(files(client, repo.tree, "x/**"))) == expected
    assert sorted(changed(client, old, repo.tree)) == expected
    assert client.blobs(files(client, repo.tree, "x/**")) == {
        b"x/" + name: name for name in HOSTILE
    }
    repo.write(dict.fromkeys(expected, "changed"))
    assert sorted(client.dirty()) == expected
    assert not list(repo.root.rglob("executed"))


def test_modes(repo: Repo) -> None:
    (repo.root / "run").write_text("#!/bin/sh\n")
    (repo.root / "run").chmod(0o755)
    (repo.root / "link").symlink_to("/etc/passwd")
    repo.add_submodule("lib", "1" * 40)
    repo.git("add", "run", "link")
    repo.git("commit", "--quiet", "-m", "x")
    found = {e.path: e for e in files(repo.repository(), repo.tree, "run", "link", "lib")}
    assert {path: entry.mode for path, entry in found.items()} == {
        b"run": b"100755",
        b"link": b"120000",
        b"lib": b"160000",
    }
    assert found[b"lib"].oid == b"1" * 40
    assert repo.repository().blobs([found[b"link"]]) == {b"link": b"/etc/passwd"}


def test_objects(repo: Repo) -> None:
    client = repo.repository()
    found = client.objects(
        ["HEAD^{commit}", "HEAD:a", "HEAD:top", "HEAD:no where missing", "0" * 40, "HEAD:a/one"]
    )
    assert [o and o.type for o in found] == ["commit", "tree", "blob", None, None, "blob"]
    assert [o.body for o in found if o and o.type == "blob"] == [b"1", b"2"]
    assert [o and o.oid for o in found[1:3]] == [
        repo.git("rev-parse", f"HEAD:{path}") for path in ("a", "top")
    ]
    assert client.objects([]) == []
    with pytest.raises(UsageError):
        client.objects(["HEAD\nHEAD"])


def test_contents_that_look_like_an_answer_of_git(repo: Repo) -> None:
    tricky = b"missing\n0000000000000000000000000000000000000000 blob 3\n\n"
    repo.commit({"tricky": tricky, "empty": b""})
    found = repo.repository().objects(["HEAD:tricky", "HEAD:empty", "HEAD:top"])
    assert [o and o.body for o in found] == [tricky, b"", b"1"]


def test_commit(repo: Repo) -> None:
    client = repo.repository()
    repo.git("tag", "-a", "-m", "x", "v1")
    for name in ("HEAD", "main", "v1", repo.head, repo.head[:10]):
        found = client.commit(name)
        assert found is not None
        assert found.oid == repo.head
    for name in ("nothing", "", "--help", "HEAD:top", "f" * 40, "main..main"):
        assert client.commit(name) is None


def test_an_object_id_is_hex_and_nothing_else() -> None:
    for name in ("--output=x", "HEAD", "f" * 39, "F" * 40, "f" * 40 + "\n", ""):
        with pytest.raises(ValueError, match="not an object id"):
            git.oid(name)
    assert git.oid("f" * 64) == "f" * 64


@pytest.mark.parametrize(
    "name",
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_EXTERNAL_DIFF"],
)
def test_git_variables_of_the_caller_do_not_count(repo: Repo, tmp_path: Path, name: str) -> None:
    other = Repo(tmp_path / "other")
    other.commit({"else": "x"})
    client = repo.repository(
        **{name: str(other.root / ".git"), "GIT_NAMESPACE": "x", "GIT_GLOB_PATHSPECS": "1"}
    )
    assert paths(files(client, repo.tree)) == [b"a/b/two", b"a/one", b"top"]
    assert client.dirty() == []
    assert (
        Repository.discover(repo.root / "a" / "b", ENV | {name: str(other.root)}).root == repo.root
    )


def test_discovering(repo: Repo, tmp_path: Path) -> None:
    assert Repository.discover(repo.root / "a", ENV).root == repo.root
    bare = tmp_path / "bare.git"
    repo.git("clone", "--quiet", "--bare", str(repo.root), str(bare))
    for start in (bare, bare / "refs"):
        found = Repository.discover(start, ENV)
        assert found.root == bare
        assert paths(files(found, repo.tree)) == [b"a/b/two", b"a/one", b"top"]
    repo.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "beside"))
    beside = Repository.discover(tmp_path / "beside" / "a", ENV)
    assert beside.root == tmp_path / "beside"
    assert beside.commit("HEAD") is not None
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError) as caught:
        Repository.discover(tmp_path / "empty", ENV | {"GIT_CEILING_DIRECTORIES": str(tmp_path)})
    assert caught.value.id == "git-no-repository"


def test_a_repository_with_sha256(tmp_path: Path) -> None:
    made = Repo(tmp_path / "repo", "--object-format=sha256")
    made.commit({"a/one": "1"})
    old = made.tree
    made.commit({"a/two": "2"})
    client = made.repository()
    assert len(made.head) == 64
    assert paths(files(client, made.tree, "a/**")) == [b"a/one", b"a/two"]
    assert changed(client, old, made.tree) == [b"a/two"]
    assert [o and len(o.oid) for o in client.objects(["HEAD:a"])] == [64]


def test_changed(repo: Repo) -> None:
    old = repo.tree
    (repo.root / "top").chmod(0o755)
    repo.commit({"a/b/two": None, "a/renamed": "3", "a/one": "changed"})
    assert changed(repo.repository(), old, repo.tree) == [
        b"a/b/two",
        b"a/one",
        b"a/renamed",
        b"top",
    ]
    assert changed(repo.repository(), repo.tree, repo.tree) == []


def test_changed_between_files_and_folders(repo: Repo) -> None:
    old = repo.tree
    repo.commit({"a/one": None, "a/b/two": None, "top": None})
    shutil.rmtree(repo.root / "a")
    repo.commit({"a": "a file now", "top/below": "a folder now"})
    assert changed(repo.repository(), old, repo.tree) == [
        b"a",
        b"a/b/two",
        b"a/one",
        b"top",
        b"top/below",
    ]


def test_dirty(repo: Repo) -> None:
    repo.commit({".gitignore": "ignored\n", "old": "x" * 100})
    client = repo.repository()
    assert client.dirty() == []
    repo.git("mv", "old", "renamed")
    repo.write({"top": "changed", "a/new/deep": "", "ignored": "", "a/one": None})
    (repo.root / "a/b/two").chmod(0o755)
    assert sorted(client.dirty()) == [
        b"a/b/two",
        b"a/new/deep",
        b"a/one",
        b"old",
        b"renamed",
        b"top",
    ]


def test_dirty_takes_no_lock_and_writes_no_index(repo: Repo) -> None:
    index = repo.root / ".git/index"
    os.utime(repo.root / "top", (1, 1))
    before = index.read_bytes()
    repo.repository().dirty()
    assert index.read_bytes() == before


def test_the_tree_of_the_work_tree(repo: Repo, tmp_path: Path) -> None:
    repo.commit({".gitignore": "ignored\n"})
    repo.add_submodule("lib", "1" * 40)
    repo.git("commit", "--quiet", "-m", "x")
    client = repo.repository()
    assert client.worktree_tree(tmp_path / "index-0") == repo.tree
    repo.git("rm", "--quiet", "--cached", "top")
    repo.write({"a/one": "changed", "untracked": "", "ignored": "", "a/b/two": None})
    index, status = (repo.root / ".git/index").read_bytes(), repo.git("status", "--porcelain")
    tree = client.worktree_tree(tmp_path / "index-1")
    assert paths(files(client, tree)) == [b".gitignore", b"a/one", b"lib", b"top", b"untracked"]
    assert changed(client, repo.tree, tree) == [b"a/b/two", b"a/one", b"untracked"]
    assert ((repo.root / ".git/index").read_bytes(), repo.git("status", "--porcelain")) == (
        index,
        status,
    )


def test_branches_and_merge_bases(repo: Repo, tmp_path: Path) -> None:
    base = repo.head
    repo.git("checkout", "--quiet", "-b", "side")
    side = repo.commit({"side": ""})
    repo.git("checkout", "--quiet", "main")
    main = repo.commit({"main": ""})
    client = repo.repository()
    assert client.branch() == "main"
    repo.git("tag", "main")
    assert client.branch() == "main", "other refs of that name do not matter"
    repo.git("worktree", "add", "--quiet", str(tmp_path / "beside"), "side")
    assert Repository.discover(tmp_path / "beside", ENV).branch() == "side"
    assert client.merge_base(side, main) == base
    repo.git("checkout", "--quiet", "--orphan", "apart")
    assert client.merge_base(repo.commit(), main) is None
    repo.git("checkout", "--quiet", "--detach")
    assert client.branch() is None
    repo.git("checkout", "--quiet", "main")
    shallow = repo.clone(tmp_path / "shallow", "--depth=1").repository()
    assert shallow.commit(base) is None


@pytest.fixture
def partial(repo: Repo, tmp_path: Path) -> Repo:
    """A blobless clone that has checked nothing out: it knows every tree and not one file's
    contents.
    """
    repo.git("config", "uploadpack.allowFilter", "true")
    repo.commit({f"many/{number}": str(number) for number in range(50)})
    return repo.clone(tmp_path / "partial", "--filter=blob:none", "--no-checkout")


def objects_of(repo: Repo) -> str:
    return repo.git("cat-file", "--batch-all-objects", "--batch-check", "--unordered")


@pytest.mark.parametrize("unknown", ["", "GIT_NO_LAZY_FETCH"])
def test_a_partial_clone_fetches_nothing(
    repo: Repo, partial: Repo, monkeypatch: pytest.MonkeyPatch, unknown: str
) -> None:
    """With a git that heeds that variable, and with an older one."""
    scrubbed = git.scrubbed
    monkeypatch.setattr(
        git, "scrubbed", lambda env: {k: v for k, v in scrubbed(env).items() if k != unknown}
    )
    before = objects_of(partial)
    client = partial.repository()
    assert files(client, partial.tree) == files(repo.repository(), repo.tree)
    listed = files(client, partial.tree, "many/**")
    assert client.blobs(listed) == {}
    one = listed[0].oid.decode()
    names = ["HEAD", one, "HEAD:top", "HEAD:a", f"{one}^{{commit}}", "absent", "HEAD:a/b"]
    assert [o and o.type for o in client.objects(names)] == [
        "commit",
        None,
        None,
        "tree",
        None,
        None,
        "tree",
    ]
    assert objects_of(partial) == before
    partial.git("cat-file", "blob", one, GIT_ALLOW_PROTOCOL="file")
    assert objects_of(partial) != before, "git by itself would have fetched it"
    assert partial.repository().blobs(listed) == {listed[0].path: b"0"}


def test_a_partial_clone_without_its_remote(partial: Repo) -> None:
    listed = files(partial.repository(), partial.tree, "many/**")
    partial.git("remote", "remove", "origin")
    client = partial.repository()
    assert files(client, partial.tree, "many/**") == listed
    assert client.blobs(listed) == {}


def test_a_clone_without_trees_says_so(repo: Repo, tmp_path: Path) -> None:
    repo.git("config", "uploadpack.allowFilter", "true")
    treeless = repo.clone(tmp_path / "treeless", "--filter=tree:0", "--no-checkout")
    tree = treeless.git("cat-file", "commit", "HEAD").split()[1]
    with pytest.raises(UsageError) as caught:
        files(treeless.repository(), tree)
    assert caught.value.id == "git-tree-missing"


def test_another_failure_of_git_is_reported(repo: Repo) -> None:
    repo.write({".git/config": "[core\n"})
    with pytest.raises(process.ProcessFailed, match="bad config"):
        repo.repository().commit("HEAD")


def test_a_listing(repo: Repo) -> None:
    client = repo.repository()
    assert paths(client.listing(repo.tree, "")) == [b"a", b"top"]
    assert paths(client.listing(repo.tree, "a")) == [b"a/b", b"a/one"]
    for path in ("top", "absent", "..", "../x", "/x", "a\nb"):
        assert client.listing(repo.tree, path) == []


def test_a_repository_of_another_user(tmp_path: Path) -> None:
    """As in a container that runs as another user than the one that cloned."""
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    made = Repo(tmp_path / "it's theirs")
    made.commit({"top": "1"})
    bare = made.clone(tmp_path / "bare", "--bare")
    for place in (made.root, bare.root):
        for path in (place, *place.rglob("*")):
            os.chown(path, 12345, 12345, follow_symlinks=False)
    home = {key: value for key, value in ENV.items() if not key.startswith("GIT_")} | {
        "HOME": str(tmp_path)
    }
    with pytest.raises(UsageError) as caught:
        Repository.discover(made.root, home).commit("HEAD")
    assert (caught.value.id, caught.value.where) == ("git-foreign-owner", str(made.root))
    hint = caught.value.hint or ""
    assert hint.endswith(f"git config --global --add safe.directory {shlex.quote(str(made.root))}")
    with pytest.raises(UsageError) as caught:
        Repository.discover(bare.root, home)
    assert caught.value.id == "git-foreign-owner"
    command = shlex.split(hint[hint.index("git config") :])
    process.run(command, env=home)
    assert Repository.discover(made.root, home).commit("HEAD") is not None
