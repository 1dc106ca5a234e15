"""What of a repository's trees counts into fingerprints, stage by stage.

A folder that counts whole is one entry, whatever lies below it: git's id of
its tree stands for all of it. Only the trees on the way to what the
patterns name are read.
"""

from binascii import hexlify
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from cipipe.fingerprint import framed, length
from cipipe.patterns import Patterns
from cipipe.tools.git.client import LINK, SUBMODULE, TREE, Repository, Tree
from cipipe.tree_files import Listed, Reach

_LINKS = frozenset({LINK, SUBMODULE})

# What the content of a folder depends on: the patterns, the folder's path,
# and its tree.
_Key = tuple[tuple[str, ...], bytes, bytes]


class Contents:
    """The entries that count, each as length-framed mode, id and path, in
    the order of their paths.

    What was made of a folder is kept: a second commit costs only the
    folders that differ.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._selections: dict[tuple[str, ...], _Selection] = {}
        self._made: dict[_Key, list[bytes]] = {}

    def of(self, tree: str, patterns: Mapping[str, Patterns]) -> dict[str, list[bytes]]:
        """The content of each stage, by name. Raises UsageError if a tree is missing."""
        selections = {name: self._selection(p) for name, p in patterns.items()}
        self._read(tree.encode(), list(dict.fromkeys(selections.values())))
        return {
            name: self._below(b"", tree.encode(), selection)
            for name, selection in selections.items()
        }

    def _selection(self, patterns: Patterns) -> "_Selection":
        if patterns.texts not in self._selections:
            self._selections[patterns.texts] = _Selection(patterns)
        return self._selections[patterns.texts]

    def _read(self, tree: bytes, selections: list["_Selection"]) -> None:
        """Read all trees that `_below` will need, a level of folders at a
        time.

        Folders that contain only files are framed while git reads the next
        one: that is nearly all of the work.
        """
        level = {(b"", tree): selections}
        while level:
            places = defaultdict(list)
            for (folder, oid), some in level.items():
                places[oid].append((folder, some))
            trees = self._repository.trees(list(places), partial(self._arrived, places))

            level = defaultdict(list)
            for found, at in zip(trees, places.values(), strict=True):
                for folder, some in at:
                    for selection in some:
                        for path, inner in selection.folders(folder, found):
                            if selection.key(path, inner) not in self._made:
                                level[path, inner].append(selection)

    def _arrived(
        self, places: Mapping[bytes, list[tuple[bytes, list["_Selection"]]]], oid: bytes, tree: Tree
    ) -> None:
        if tree.plain:
            for folder, selections in places[oid]:
                for selection in selections:
                    self._below(folder, oid, selection)

    def _below(self, folder: bytes, oid: bytes, selection: "_Selection") -> list[bytes]:
        key = selection.key(folder, oid)
        if key not in self._made:
            tree = self._repository.trees([oid])[0]
            self._made[key] = [piece for piece in self._pieces(folder, tree, selection) if piece]
        return self._made[key]

    def _pieces(self, folder: bytes, tree: Tree, selection: "_Selection") -> Iterator[bytes]:
        """The entries below a folder (`b""`, or ending with a slash),
        framed; together they are the content. As few pieces as possible.
        """
        entries = selection.entries(folder, tree)
        if tree.plain:
            yield _frames(folder, selection.files(folder, entries))
            return

        # git sorts a folder as if its name ended with a slash; one that
        # counts whole is an entry like a file, and goes where its plain
        # name does.
        entries.sort(
            key=lambda e: (
                e[1] + b"/" if e[0] == TREE and not selection.is_whole(folder + e[1]) else e[1]
            )
        )
        chosen = selection.chooser(folder)
        for entry in entries:
            mode, name, oid = entry
            path = folder + name
            if mode == TREE:
                if selection.is_whole(path):
                    yield _frames(folder, [entry])
                else:
                    yield from self._below(path + b"/", oid.hex().encode(), selection)
            elif selection.patterns.matches_link(path) if mode in _LINKS else chosen(name):
                yield _frames(folder, [entry])


class _Selection:
    """What one stage's patterns take of a tree: whole folders, and files in folders to be read."""

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns
        self.is_whole = frozenset(patterns.folders).__contains__
        self._reach = Reach(patterns.prefixes, only_found=patterns.folders)
        self.entries = self._reach.entries

    def folders(self, folder: bytes, tree: Tree) -> Iterator[tuple[bytes, bytes]]:
        """The folders in a folder that have to be read: path, ending with a slash, and id."""
        if tree.plain:
            return
        for mode, name, oid in self.entries(folder, tree):
            if mode == TREE and not self.is_whole(folder + name):
                yield folder + name + b"/", oid.hex().encode()

    def key(self, folder: bytes, oid: bytes) -> _Key:
        return self.patterns.texts, folder, oid

    def files(self, folder: bytes, entries: list[Listed]) -> list[Listed]:
        """The files that count, of those in a folder without folders."""
        endings = self.patterns.endings_in(folder)
        if endings is not None:
            return [entry for entry in entries if not entry[1].endswith(endings)]
        chosen = self.chooser(folder)
        return [entry for entry in entries if chosen(entry[1])]

    def chooser(self, folder: bytes) -> Callable[[bytes], object]:
        """What says of a file's name in this folder whether it counts."""
        if not self._reach.takes_all(folder):
            # Few names lead on from here, so a regular expression for them
            # all would not pay off.
            return lambda name: self.patterns.matches(folder + name)
        names = self.patterns.names_in(folder)
        return names.fullmatch if names is not None else lambda _: False


def _frames(folder: bytes, entries: list[Listed]) -> bytes:
    """Entries of one folder, framed. One expression per entry: this is where the time goes."""
    if not entries:
        return b""
    oid_length = length(2 * len(entries[0][2]))
    heads = _Made(lambda mode: framed(mode.rjust(6, b"0")) + oid_length)
    above = _Made(lambda size: length(len(folder) + size) + folder)
    return b"".join(
        [heads[mode] + hexlify(oid) + above[len(name)] + name for mode, name, oid in entries]
    )


class _Made(dict[Any, bytes]):
    """What `make` gives for each key, made once."""

    def __init__(self, make: Callable[[Any], bytes]) -> None:
        self._make = make

    def __missing__(self, key: Any) -> bytes:
        made = self[key] = self._make(key)
        return made
