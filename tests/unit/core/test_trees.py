"""What is read of trees, against definitions that look at every file and every pattern."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from cipipe import tree_files
from cipipe.contents import Contents
from cipipe.patterns import PatternIndex, Patterns
from cipipe.tools.git.client import LINK, SUBMODULE, TREE, Entry, Repository, Tree

Folder = dict[bytes, "Folder | bytes"]
"""The names of a folder: a folder, or the mode of what is none."""

NAMES = st.sampled_from([b"a", b"b", b"ab", b"a-", b"a.md", b"-"])
MODES = st.sampled_from([b"100644", b"100644", b"100755", LINK, SUBMODULE])
FOLDERS = st.recursive(
    st.dictionaries(NAMES, MODES, max_size=4),
    lambda inner: st.dictionaries(NAMES, MODES | inner, max_size=5),
    max_leaves=12,
)
SEGMENTS = st.sampled_from(["a", "b", "ab", "a-", "a.md", "-", "*", "**", "*.md", "a*", "?"])
PATTERNS = st.lists(
    st.tuples(st.sampled_from(["", "", "", "!"]), st.lists(SEGMENTS, min_size=1, max_size=4)).map(
        lambda made: made[0] + "/".join(made[1])
    ),
    min_size=1,
    max_size=4,
).map(Patterns)


class Trees:
    """A repository that has trees and nothing else, and counts which of them were read."""

    def __init__(self) -> None:
        self._trees: dict[bytes, Tree] = {}
        self.read: list[bytes] = []

    def add(self, folder: Folder) -> bytes:
        """The id, in hex, of a folder with all that is in it."""
        entries = []
        for name, item in folder.items():
            if isinstance(item, dict):
                entries.append((name + b"/", TREE, name, bytes.fromhex(self.add(item).decode())))
            else:
                entries.append((name, item, name, hashlib.sha1(name + item).digest()))
        body = b"".join(b"%b %b\0%b" % entry[1:] for entry in sorted(entries))
        oid = hashlib.sha1(body).hexdigest().encode()
        self._trees[oid] = Tree(body, 20)
        return oid

    def trees(
        self, names: Sequence[bytes], came: Callable[[bytes, Tree], None] | None = None
    ) -> list[Tree]:
        for name in dict.fromkeys(names):
            if name not in self.read:
                self.read.append(name)
                if came is not None:
                    came(name, self._trees[name])
        return [self._trees[name] for name in names]

    def every(self, oid: bytes, above: bytes = b"") -> Iterator[Entry]:
        """Every entry, folders included, with its whole path."""
        for mode, name, raw in self._trees[oid].listing():
            inner = raw.hex().encode()
            yield Entry(mode.rjust(6, b"0"), inner, above + name)
            if mode == TREE:
                yield from self.every(inner, above + name + b"/")


def repository(trees: Trees) -> Repository:
    return cast("Repository", trees)


def expected_content(trees: Trees, oid: bytes, patterns: Patterns) -> bytes:
    """Of every entry of the tree, in the order of their paths: folders that count whole, and files
    outside of them that match.
    """
    whole = patterns.folders
    found = [
        entry
        for entry in trees.every(oid)
        if (entry.path in whole if entry.is_tree else tree_files.matches(patterns, entry))
        and not any(
            entry.path.startswith(folder + b"/") and _is_folder(trees, oid, folder)
            for folder in whole
        )
    ]
    return b"".join(
        len(field).to_bytes(8, "big") + field
        for entry in sorted(found, key=lambda entry: entry.path)
        for field in (entry.mode, entry.oid, entry.path)
    )


def _is_folder(trees: Trees, oid: bytes, path: bytes) -> bool:
    return any(entry.is_tree and entry.path == path for entry in trees.every(oid))


@given(FOLDERS, FOLDERS, st.lists(PATTERNS, min_size=1, max_size=3))
def test_the_content_is_every_entry_that_counts(
    first: Folder, second: Folder, stages: list[Patterns]
) -> None:
    trees = Trees()
    contents = Contents(repository(trees))
    named = {f"s{number}": patterns for number, patterns in enumerate(stages)}
    for folder in (first, second, first):
        oid = trees.add(folder)
        made = contents.of(oid.decode(), named)
        for name, patterns in named.items():
            assert b"".join(made[name]) == expected_content(trees, oid, patterns)


@given(FOLDERS, PATTERNS)
def test_files_and_links_are_all_that_match(folder: Folder, patterns: Patterns) -> None:
    trees = Trees()
    oid = trees.add(folder)
    every = sorted(trees.every(oid), key=lambda entry: entry.path)
    files = [e for e in every if not e.is_tree and tree_files.matches(patterns, e)]
    links = [entry for entry in files if entry.mode == LINK]

    assert list(tree_files.files(repository(trees), oid.decode(), patterns)) == files
    assert list(tree_files.links(repository(trees), oid.decode(), patterns)) == links
    some = [entry.path for entry in every[::2]]
    assert list(tree_files.links(repository(trees), oid.decode(), patterns, some)) == [
        entry for entry in links if entry.path in some
    ]


@given(FOLDERS, FOLDERS, st.lists(PATTERNS, min_size=1, max_size=3))
def test_what_changed_is_all_that_differs_and_matches(
    before: Folder, after: Folder, stages: list[Patterns]
) -> None:
    trees = Trees()
    old, new = trees.add(before), trees.add(after)
    was, now = set(trees.every(old)), set(trees.every(new))
    named = {f"s{number}": patterns for number, patterns in enumerate(stages)}

    found = tree_files.changed(repository(trees), old.decode(), new.decode(), PatternIndex(named))

    for name, patterns in named.items():
        # Where both are files, the earlier one says whether it is a link.
        differing = {e.path: e for some in (now - was, was - now) for e in some if not e.is_tree}
        assert found.get(name, ()) == tuple(
            sorted(path for path, e in differing.items() if tree_files.matches(patterns, e))
        )


@given(st.lists(PATTERNS, min_size=1, max_size=4), st.lists(NAMES, min_size=1, max_size=4))
def test_the_index_finds_every_stage_that_matches(
    stages: list[Patterns], path_segments: list[bytes]
) -> None:
    path = b"/".join(path_segments)
    named = {f"s{number}": patterns for number, patterns in enumerate(stages)}
    index = PatternIndex(named)

    assert set(index.matching(path, is_link=False)) == {
        name for name, patterns in named.items() if patterns.matches(path)
    }
    assert set(index.matching(path, is_link=True)) == {
        name for name, patterns in named.items() if patterns.matches_link(path)
    }


def test_only_folders_on_the_way_are_read() -> None:
    trees = Trees()
    oid = trees.add(
        {
            b"dags": {b"one": {b"x": b"100644"}, b"two": {b"y": b"100644"}},
            b"other": {b"z": {b"w": b"100644"}},
        }
    )
    Contents(repository(trees)).of(
        oid.decode(), {"one": Patterns(["dags/one/**"]), "two": Patterns(["dags/two/*"])}
    )
    folders = {entry.oid: entry.path for entry in trees.every(oid)}
    assert [folders.get(name, b"") for name in trees.read] == [b"", b"dags", b"dags/two"]
