"""Files of git trees: those that patterns match, links, all below a folder,
what differs.

Only the trees that can matter are read. With `contents`, which hashes the
same trees, this is all that reads a commit on behalf of stages.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from cipipe.patterns import PatternIndex, Patterns
from cipipe.tools.git.client import LINK, SUBMODULE, TREE, Entry, Repository, Tree

# An entry of a tree as git stores it: mode, name, and id in raw bytes.
Listed = tuple[bytes, bytes, bytes]

_LINKS = frozenset({LINK, SUBMODULE})


class Reach:
    """Which folders have to be read to find some paths. Folders end with a
    slash; the top is `b""`.

    Everything below `prefixes` is reached (`b""`: the whole tree).
    `only_found` paths are found in their folder, and not read themselves.
    """

    def __init__(self, prefixes: Iterable[bytes], *, only_found: Iterable[bytes] = ()) -> None:
        self._prefixes = frozenset(prefixes)
        self._only_found = frozenset(only_found)
        # Of each folder above one of these paths, the names in it that lead
        # on.
        self._leading: dict[bytes, set[bytes]] = {}
        for path in self._prefixes | self._only_found:
            self._lead_to(path)

    def _lead_to(self, path: bytes) -> None:
        while path:
            above, _, name = path.rpartition(b"/")
            names = self._leading.setdefault(above + b"/" if above else b"", set())
            if name in names:
                return
            names.add(name)
            path = above

    def takes_all(self, folder: bytes) -> bool:
        """Whether everything in a folder is reached: it is a prefix, or below one."""
        path = folder[:-1]
        while path and path not in self._prefixes:
            path = path.rpartition(b"/")[0]
        return path in self._prefixes

    def reads(self, path: bytes) -> bool:
        """Whether a folder, here without its slash, has to be read."""
        folder = path + b"/"
        return folder in self._leading or self.takes_all(folder)

    def entries(self, folder: bytes, tree: Tree) -> list[Listed]:
        """The entries of a folder that are reached, in git's order unless
        only some of them are.

        Where a folder is only on the way, this costs the few names that
        lead on: a thousand stages may each have a folder of their own in
        it.
        """
        if self.takes_all(folder):
            return tree.listing()
        by_name = tree.by_name
        leading = sorted(self._leading.get(folder, ()))
        return [by_name[name] for name in leading if name in by_name]


def files(repository: Repository, tree: str, patterns: Patterns) -> tuple[Entry, ...]:
    """Every file that the patterns match, one by one."""
    reach = Reach((*patterns.folders, *patterns.prefixes))
    found = [entry for entry in _files(repository, tree, reach) if matches(patterns, entry)]
    return tuple(sorted(found, key=lambda entry: entry.path))


def links(
    repository: Repository, tree: str, patterns: Patterns, among: Iterable[bytes] | None = None
) -> tuple[Entry, ...]:
    """The symlinks that the patterns match. With `among`, those of these
    paths: only the folders they lie in are read.
    """
    if among is None:
        reach = Reach((*patterns.folders, *patterns.prefixes))
        wanted = None
    else:
        wanted = frozenset(among)
        reach = Reach((), only_found=wanted)
    found = [
        Entry(b"120000", oid.hex().encode(), folder + name)
        for folder, below in _walk(repository, tree, reach)
        if not below.plain
        for mode, name, oid in reach.entries(folder, below)
        if mode == LINK
        and (wanted is None or folder + name in wanted)
        and patterns.matches_link(folder + name)
    ]
    return tuple(sorted(found, key=lambda entry: entry.path))


def read_ahead(repository: Repository, tree: str, patterns: Iterable[Patterns]) -> None:
    """Read all trees of several stages, a level at a time: later look-ups
    in them cost nothing.

    Raises UsageError if a tree is missing in the clone.
    """
    prefixes = {prefix for some in patterns for prefix in (*some.folders, *some.prefixes)}
    for _ in _walk(repository, tree, Reach(prefixes)):
        pass


def below(repository: Repository, tree: str, folder: bytes) -> list[Entry]:
    """Every file below a folder, with its whole path. `tree` is the folder's own."""
    found = sorted(_files(repository, tree, Reach((b"",))), key=lambda entry: entry.path)
    if not folder:
        return found
    return [Entry(e.mode, e.oid, folder + b"/" + e.path) for e in found]


def changed(
    repository: Repository, old: str, new: str, index: PatternIndex
) -> dict[str, tuple[bytes, ...]]:
    """Of each stage of the index that has any, the paths that differ
    between two trees; a rename is two of them. Equal trees are not read.
    """
    found: dict[str, set[bytes]] = defaultdict(set)
    for mode, path in _differing(
        repository=repository, old=old, new=new, reach=Reach(index.prefixes)
    ):
        for name in index.matching(path, is_link=mode in _LINKS):
            found[name].add(path)
    return {name: tuple(sorted(paths)) for name, paths in found.items()}


def matches(patterns: Patterns, entry: Entry) -> bool:
    """Whether a file counts. A submodule or a symlink that replaces a
    folder counts as what is below it.
    """
    if entry.mode in _LINKS:
        return patterns.matches_link(entry.path)
    return patterns.matches(entry.path)


def uncovered(entries: Iterable[Entry], patterns: Mapping[str, Patterns]) -> list[bytes]:
    """The paths of files that no stage's patterns match."""
    index = PatternIndex(patterns)
    return [e.path for e in entries if not any(index.matching(e.path, is_link=e.mode in _LINKS))]


def _differing(
    repository: Repository, old: str, new: str, reach: Reach
) -> Iterator[tuple[bytes, bytes]]:
    """Mode and path of each file that differs between two trees, as far as the reach goes."""
    pairs: list[tuple[bytes, bytes | None, bytes | None]] = [(b"", old.encode(), new.encode())]
    while pairs:
        wanted = [oid for _, *both in pairs for oid in both if oid is not None]
        read = dict(zip(wanted, repository.trees(wanted), strict=True))
        inner = []
        for folder, before, after in pairs:
            was = set(read[before].listing()) if before else set()
            now = set(read[after].listing()) if after else set()
            gone = {name: (mode, oid) for mode, name, oid in was - now}
            came = {name: (mode, oid) for mode, name, oid in now - was}

            for name in gone.keys() | came.keys():
                earlier = gone.get(name)
                later = came.get(name)
                modes = [entry[0] for entry in (earlier, later) if entry is not None]
                file_modes = [mode for mode in modes if mode != TREE]
                if file_modes:
                    yield file_modes[0], folder + name
                if TREE in modes and reach.reads(folder + name):
                    inner.append((folder + name + b"/", _tree_oid(earlier), _tree_oid(later)))
        pairs = inner


def _tree_oid(entry: tuple[bytes, bytes] | None) -> bytes | None:
    """A tree's id in hex; None for what is no tree."""
    return entry[1].hex().encode() if entry is not None and entry[0] == TREE else None


def _walk(repository: Repository, tree: str, reach: Reach) -> Iterator[tuple[bytes, Tree]]:
    """The folders that have to be read, each with its path (ending with a
    slash); a level at a time.
    """
    level = [(b"", tree.encode())]
    while level:
        trees = repository.trees([oid for _, oid in level])
        folders = [(folder, found) for (folder, _), found in zip(level, trees, strict=True)]
        yield from folders
        level = [
            (folder + name + b"/", oid.hex().encode())
            for folder, found in folders
            if not found.plain
            for mode, name, oid in reach.entries(folder, found)
            if mode == TREE and reach.reads(folder + name)
        ]


def _files(repository: Repository, tree: str, reach: Reach) -> Iterator[Entry]:
    """Every file in the folders that have to be read."""
    for folder, found in _walk(repository, tree, reach):
        for mode, name, oid in reach.entries(folder, found):
            if mode != TREE:
                yield Entry(mode, oid.hex().encode(), folder + name)
