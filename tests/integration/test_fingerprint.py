"""Which entries of a real tree a stage's fingerprint counts, and that nothing below its paths
changes unseen.
"""

import io
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cipipe import fingerprint, tree_files
from cipipe.contents import Contents
from cipipe.patterns import Patterns
from cipipe.tools.git.client import Entry, Repository, Tree
from support.git import ENV, HOSTILE, Repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.commit(
        {"a/one": "1", "a/b/two.md": "2", "a/b/run": "#!", "ab/three": "3", "top": "4", "z/z": "5"}
    )
    return made


def entries(repo: Repo, *patterns: str) -> tuple[Entry, ...]:
    """What counts, read back from its frames."""
    stream = io.BytesIO(b"".join(content(repo, *patterns)))
    fields = [
        stream.read(int.from_bytes(size, "big")) for size in iter(lambda: stream.read(8), b"")
    ]
    return tuple(Entry(*fields[start : start + 3]) for start in range(0, len(fields), 3))


def content(repo: Repo, *patterns: str) -> list[bytes]:
    return Contents(repo.repository()).of(repo.tree, {"s": Patterns(patterns)})["s"]


def paths(repo: Repo, *patterns: str) -> list[bytes]:
    return [entry.path for entry in entries(repo, *patterns)]


def digest(repo: Repo, *patterns: str) -> str:
    return fingerprint.digest("k", {}, content(repo, *patterns))


def test_a_whole_folder_is_one_tree(repo: Repo) -> None:
    assert entries(repo, "a/**") == (
        Entry(b"040000", repo.git("rev-parse", "HEAD:a").encode(), b"a"),
    )
    assert paths(repo, "a/**", "top", "a/b/**") == [b"a", b"top"]
    assert paths(repo, "a/b/**", "ab/**") == [b"a/b", b"ab"]


def test_files(repo: Repo) -> None:
    assert paths(repo, "a/**", "!a/**/*.md") == [b"a/b/run", b"a/one"]
    assert paths(repo, "a/*") == [b"a/one"]
    assert paths(repo, "*") == [b"top"]
    assert paths(repo, "**") == [b"a/b/run", b"a/b/two.md", b"a/one", b"ab/three", b"top", b"z/z"]
    assert (
        paths(repo, "absent/**")
        == paths(repo, "top/**")
        == paths(repo)
        == paths(repo, "!a/**")
        == []
    )


@pytest.mark.parametrize(
    "patterns", [("a/**",), ("a/**", "!a/**/*.md"), ("**",), ("a/b/*", "top"), ("a/b/**", "a/*")]
)
def test_the_files_are_those_that_match(repo: Repo, patterns: tuple[str, ...]) -> None:
    chosen = Patterns(patterns)
    every = tree_files.files(repo.repository(), repo.tree, Patterns(["**"]))
    expected = {entry.path for entry in every if chosen.matches(entry.path)}
    assert {
        entry.path for entry in tree_files.files(repo.repository(), repo.tree, chosen)
    } == expected
    for entry in entries(repo, *patterns):
        expected -= {
            path for path in expected if path == entry.path or path.startswith(entry.path + b"/")
        }
    assert not expected


def link(path: Path) -> None:
    content = path.read_text()
    path.unlink()
    path.symlink_to(content)


CHANGES: dict[str, Callable[[Repo], object]] = {
    "contents": lambda r: r.write({"a/b/run": "#!/bin/sh"}),
    "new file": lambda r: r.write({"a/b/c/new": ""}),
    "deleted": lambda r: r.write({"a/one": None}),
    "renamed": lambda r: (r.root / "a/one").rename(r.root / "a/eno"),
    "mode": lambda r: (r.root / "a/b/run").chmod(0o755),
    "to a link": lambda r: link(r.root / "a/one"),
    "moved in": lambda r: (r.root / "z/z").rename(r.root / "a/z"),
    "moved out": lambda r: (r.root / "a/one").rename(r.root / "z/one"),
    "file to folder": lambda r: r.write({"a/one": None, "a/one/deep": "1"}),
    "hostile": lambda r: r.write({b"a/" + name: "" for name in HOSTILE}),
    "swapped": lambda r: r.write({"a/one": "#!", "a/b/run": "1"}),
}


@pytest.mark.parametrize(
    "patterns", [("a/**",), ("a/**", "!a/**/*.md"), ("a/*", "a/b/**")], ids=" ".join
)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_below_a_folder_counts(
    repo: Repo, patterns: tuple[str, ...], change: Callable[[Repo], object]
) -> None:
    before, elsewhere = digest(repo, *patterns), digest(repo, "top")
    change(repo)
    repo.commit()
    assert digest(repo, *patterns) != before
    assert digest(repo, "top") == elsewhere


@pytest.mark.parametrize(
    "patterns", [("a/**",), ("a/**", "!a/**/*.md"), ("a/*", "top")], ids=" ".join
)
def test_nothing_else_counts(repo: Repo, patterns: tuple[str, ...]) -> None:
    before = digest(repo, *patterns)
    repo.commit({"ab/three": "changed", "z/z": None, "y": "", "A/one": "1"})
    repo.write({"a/one": "on disk only", "a/untracked": ""})
    repo.git("add", "--all")
    assert digest(repo, *patterns) == before


def test_what_is_excluded_does_not_count(repo: Repo) -> None:
    before = digest(repo, "a/**", "!a/**/*.md")
    repo.commit({"a/b/two.md": "changed", "a/b/c/new.md": ""})
    assert digest(repo, "a/**", "!a/**/*.md") == before


def test_a_deleted_folder_and_an_empty_file(repo: Repo) -> None:
    full = digest(repo, "a/**")
    repo.commit({"a/one": None, "a/b/two.md": None, "a/b/run": None})
    empty = digest(repo, "a/**")
    repo.commit({"a/empty": ""})
    assert len({full, empty, digest(repo, "a/**")}) == 3
    repo.commit({"a/empty": None})
    assert digest(repo, "a/**") == empty


def test_hostile_names_match(repo: Repo) -> None:
    repo.commit({b"x/" + name: "" for name in HOSTILE})
    assert sorted(paths(repo, "x/*")) == sorted(b"x/" + name for name in HOSTILE)
    assert paths(repo, "x/*.sql", "!x/\\*.sql") != []
    assert paths(repo, "x/**") == [b"x"]
    assert not list(repo.root.rglob("executed"))


@pytest.mark.parametrize(
    "folder",
    [
        "-x",
        "with space",
        "gr\u00fcn",
        "a'b",
        "$(touch executed)",
        "new\nline",
        "HEAD:a",
        "a missing",
    ],
)
@pytest.mark.parametrize("more", [(), ("!{}/none",)], ids=["tree", "files"])
def test_folders_of_any_name(repo: Repo, folder: str, more: tuple[str, ...]) -> None:
    repo.commit({f"{folder}/file": "1"})
    patterns = (f"{folder}/**", *(m.format(folder) for m in more))
    before = digest(repo, *patterns)
    assert paths(repo, *patterns)
    repo.commit({f"{folder}/file": "2"})
    assert digest(repo, *patterns) != before
    assert not (repo.root / "executed").exists()


@pytest.mark.parametrize("pattern", ["lib", "lib/**", "*", "**"])
def test_a_submodule_counts_by_its_commit(repo: Repo, pattern: str) -> None:
    seen = set()
    for commit in ("1" * 40, "2" * 40):
        repo.add_submodule("lib", commit)
        repo.git("commit", "--quiet", "-m", "x")
        assert Entry(b"160000", commit.encode(), b"lib") in entries(repo, pattern)
        seen.add(digest(repo, pattern))
    assert len(seen) == 2


def test_a_submodule_inside_a_folder(repo: Repo) -> None:
    before = digest(repo, "a/**")
    repo.add_submodule("a/lib", "1" * 40)
    repo.git("commit", "--quiet", "-m", "x")
    assert digest(repo, "a/**") != before
    assert b"a/lib" in paths(repo, "a/**", "!a/b/**")
    assert b"a/lib" not in paths(repo, "a/**", "!a/lib/**")
    assert b"a/lib" not in paths(repo, "a/**", "!a/lib")


GOLDEN = {
    ("**",): "dbf04125377acb8f0dc0eec57a39edc00139ce3d886b5a7771bb0b22fdce6db9",
    ("*",): "880c5a38de9fbf9b50b58ffde8c4ca0c184c12d3950e132c5c1d79a4c548c363",
    ("a/**",): "445aa68557cee91f62cf80a087e416120b7c957e88dfad5666ada91d8f07c9b9",
    ("a/**", "a.b", "a-b/*"): "314e2bf9a0eda136bf05e98ee57c04e314309067446805fa33c127fb3af8f030",
    ("a/**", "!a/**/*.md"): "6f9b0e19ec412814ea3945a72022e6daf4ab2e546546a7bf177817d00af2936e",
    ("a/**", "!a/x/**"): "b445cffc1f120604895e53bbb311ffa3d785356900c7708a43217be4388135c9",
    ("**", "!**/*.md"): "ae73f9c3350529f914b2f3e43614729e2be48ee4d9f610ac2d10c2ef69ff55f7",
    ("a*/**", "a/**"): "1c2b2df2d912caa546b3e0d42575dd9cee1fe328d45ebe763d453951baf1ba38",
    ("**/x", "a/**", "a-b/**"): "82e03c56e5ef5ada05d9127b66d882a26d6c98a6f3e9467c4aedacbb50d3eaea",
    ("a/x/**", "a/**/*.md"): "1bfa16c9a2b02de12351716076c40c58657a5e2e581902919409b5b32e499726",
    ("link", "lib", "a/lib/**"): "4b653eec21b8f09c3bccb00ed11e1d8f0ab650ffe9d02e548e0cb364e3849894",
    ("*/x", "a.b/**", "a/x"): "0d77bbabce86cc9ad5bf3e203b54c182821630d9e5850d6ae18c6146fb35f6e0",
    ("absent/**",): "3b4f6f400d3d1c558b4d720271315fd338cbb92d981d5c2096b466a1e475e98e",
    (
        "a/**/x",
        "!a/x/x",
        "a-b/**",
    ): "ff4ce604096fbb74c176a5812cfb8d56ddc797ffd25f46f039d890b3b9c1925a",
}


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Names that sort before and after a slash, links, submodules, an executable, and what git
    stores of the rest.
    """
    made = Repo(tmp_path_factory.mktemp("golden") / "repo")
    made.write(
        {
            "a/x/one": "1",
            "a/x/x": "2",
            "a/x.md": "3",
            "a/x-y/x": "4",
            "a/x0/deep/x": "5",
            "a.b": "6",
            "a-b/x": "7",
            "a0": "8",
            "ab/x.md": "9",
            "a/z/é": "10",
            "a/x/page.md": "11",
            "top.md": "12",
        }
    )
    made.write({b"a/" + name: "" for name in HOSTILE} | {b"a/x/run": "#!"})
    (made.root / "a/x/run").chmod(0o755)
    (made.root / "a/link").symlink_to("x")
    (made.root / "link").symlink_to("a")
    made.git("add", "--all", "--force")
    made.add_submodule("lib", "1" * 40)
    made.add_submodule("a/lib", "2" * 40)
    made.git("commit", "--quiet", "-m", "x")
    return made


@pytest.mark.parametrize("patterns", GOLDEN, ids=" ".join)
def test_the_values_are_kept_for_ever(golden: Repo, patterns: tuple[str, ...]) -> None:
    """Another value here makes stages of everybody due: raise VERSION then, and say so in the
    change log.
    """
    assert digest(golden, *patterns) == GOLDEN[patterns]


@pytest.mark.parametrize("patterns", GOLDEN, ids=" ".join)
def test_entries_come_in_the_order_of_their_paths(golden: Repo, patterns: tuple[str, ...]) -> None:
    found = paths(golden, *patterns)
    assert found == sorted(set(found))


def test_what_is_kept_of_one_commit_does_not_show_in_another(golden: Repo, tmp_path: Path) -> None:
    later = golden.clone(tmp_path / "later")
    old = later.tree
    later.commit({"a/x/one": "changed", "a/x-y/x": None, "b/x": "new"})
    kept = Contents(later.repository())
    chosen = {" ".join(patterns): Patterns(patterns) for patterns in GOLDEN}
    for tree in (old, later.tree, old):
        assert kept.of(tree, chosen) == Contents(later.repository()).of(tree, chosen)
    other = {
        name: Patterns([*patterns, "!a/x/**"])
        for name, patterns in zip(chosen, GOLDEN, strict=True)
    }
    assert kept.of(old, other) == Contents(later.repository()).of(old, other)


def test_many_stages_cost_one_command(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    popen = subprocess.Popen.__init__

    def counted(self: Any, argv: Sequence[str], *rest: Any, **given: Any) -> None:
        started.append(" ".join(argv))
        popen(self, argv, *rest, **given)

    spawn = os.posix_spawn

    def spawned(program: str, argv: list[str], env: Any, **given: Any) -> int:
        started.append(" ".join(argv))
        return spawn(program, argv, env, **given)

    tree = repo.tree
    monkeypatch.setattr(subprocess.Popen, "__init__", counted)
    monkeypatch.setattr(os, "posix_spawn", spawned)
    repository = Repository(repo.root, ENV)
    patterns = {"a": ["a/**"], "b": ["ab/**", "z/**"], "c": ["a/**", "!a/*.md"], "d": ["**/x"]}
    Contents(repository).of(tree, {name: Patterns(some) for name, some in patterns.items()})
    tree_files.files(repository, tree, Patterns(["**"]))
    assert started == [f"git -C {repo.root} cat-file --batch"]


def test_a_folder_that_counts_whole_is_not_read(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    trees = Repository.trees

    def watched(self: Repository, names: Sequence[bytes], *came: Any) -> list[Tree]:
        read.extend(names)
        return trees(self, names, *came)

    monkeypatch.setattr(Repository, "trees", watched)
    entries(repo, "a/**", "z/**")
    assert set(read) == {repo.tree.encode()}
