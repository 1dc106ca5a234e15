"""One git repository: plumbing commands only, bytes throughout, `-z`.

A path is a repository path as bytes, because git's are. Nothing here
fetches.
"""

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cipipe.errors import UsageError
from cipipe.tools.git import command
from cipipe.tools.git.command import scrubbed
from cipipe.tools.git.objects import LINK, SUBMODULE, TREE, Commit, Entry, Object, Tree
from cipipe.tools.git.reader import ObjectReader, is_oid

if TYPE_CHECKING:
    from cipipe.tools.process import Completed

__all__ = [
    "LINK",
    "SUBMODULE",
    "TREE",
    "Commit",
    "Entry",
    "Object",
    "Repository",
    "Tree",
    "oid",
    "scrubbed",
]

# The file HEAD, when it names a branch. With other ref storage (reftable)
# it names the branch `.invalid`, which no branch can be called.
_BRANCH = re.compile(rb"ref: refs/heads/([^.\n].*)\n")


class Repository:
    """A git repository, with a work tree or bare."""

    def __init__(self, root: Path, env: Mapping[str, str]) -> None:
        # The top of the work tree; of a bare repository, the git directory.
        self.root = root
        self._env = scrubbed(env)
        self._reader = ObjectReader(root, self._env)
        # Objects never change, so what was read is kept: by id, in hex.
        self._trees: dict[bytes, Tree] = {}
        self._blobs: dict[bytes, bytes] = {}

    @classmethod
    def discover(cls, start: Path, env: Mapping[str, str]) -> "Repository":
        """The repository that contains `start`. Raises UsageError."""
        # Looking for `.git` ourselves saves starting git, which a plan
        # would notice.
        for folder in (start, *start.parents):
            if (folder / ".git").exists():
                return cls(folder, env)

        arguments = ["rev-parse", "--is-bare-repository", "--absolute-git-dir"]
        done = command.run(arguments, folder=start, env=scrubbed(env), check=False)
        bare, _, folder_name = done.stdout.decode(errors="surrogateescape").partition("\n")
        if done.returncode == 0 and bare == "true":
            return cls(Path(folder_name.rstrip("\n")), env)
        if command.FOREIGN_OWNER.encode() in done.stderr:
            raise command.foreign_owner(start)
        raise UsageError(
            "git-no-repository",
            f"{start} is not in a git repository",
            hint="Run cipipe inside a clone of the repository; in a CI job, check the checkout "
            "step.",
            where=str(start),
        )

    def start(self) -> None:
        """Start git now: it gets ready while its first question is still being found."""
        self._reader.start()

    def objects(self, names: Sequence[str]) -> list[Object | None]:
        """Resolve names such as `HEAD^{commit}` or `HEAD:dbt`; None where
        there is none.

        What a partial clone left out counts as missing.
        """
        if any("\n" in name for name in names):
            raise UsageError(
                "git-bad-revision", "a revision or path with a line break cannot be looked up"
            )
        found: list[Object | None] = []
        self._reader.read(names, found.append)
        return found

    def trees(
        self, names: Sequence[bytes], on_read: Callable[[bytes, Tree], None] | None = None
    ) -> list[Tree]:
        """The trees with these ids, in hex. Each is read once. Raises
        UsageError.

        `on_read` gets each one that has to be read, while git reads the
        next. It must not read anything from this repository itself.
        """
        missing = [name for name in dict.fromkeys(names) if name not in self._trees]
        awaited = iter(missing)

        def keep(found: Object | None) -> None:
            name = next(awaited)
            if found is None or found.type != "tree":
                raise UsageError(
                    "git-tree-missing",
                    f"this clone does not have the tree {name.decode()}",
                    hint="Fetch without --filter=tree:0; a clone of depth 1 is enough.",
                )
            tree = Tree(found.body, len(name) // 2)
            self._trees[name] = tree
            if on_read is not None:
                on_read(name, tree)

        if missing:
            self._reader.read([name.decode() for name in missing], keep)
        return [self._trees[name] for name in names]

    def commit(self, revision: str) -> Commit | None:
        """The commit that a revision names; None where this clone has none."""
        found = self.objects([f"{revision}^{{commit}}"])[0]
        return Commit.parse(found) if found is not None else None

    def blobs(self, entries: Iterable[Entry], *, keep: bool = False) -> dict[bytes, bytes]:
        """The contents of files, by path, without those that are not in
        this clone.

        `keep`: they will be read again, and are few enough to be kept in
        memory until then.
        """
        wanted = list(entries)
        names = list(dict.fromkeys(entry.oid for entry in wanted if entry.oid not in self._blobs))
        objects = zip(names, self.objects([name.decode() for name in names]), strict=True)
        read = {name: found.body for name, found in objects if found is not None}
        if keep:
            self._blobs |= read

        known = self._blobs | read
        return {entry.path: known[entry.oid] for entry in wanted if entry.oid in known}

    def at(self, tree: str, path: str) -> Object | None:
        """The object at a normalized path in a tree; None where there is
        none.

        Also None for a path that git cannot be asked for (`..`, a line
        break).
        """
        if "\n" in path or path.startswith("/") or path.split("/", maxsplit=1)[0] == "..":
            return None
        return self.at_each(tree, [path])[0]

    def at_each(self, tree: str, paths: Sequence[str]) -> list[Object | None]:
        """The object at each normalized path in a tree; None where there is
        none.

        Raises UsageError for a path with a line break.
        """
        found = {path: self._in_known_trees(tree, path) for path in paths}
        unknown = [path for path, known in found.items() if known is None]
        read = self.objects([f"{tree}:{path}" for path in unknown])
        found |= dict(zip(unknown, read, strict=True))
        return [found[path] for path in paths]

    def _in_known_trees(self, tree: str, path: str) -> Object | None:
        """A folder, if its tree and all trees on the way to it were read already."""
        oid = tree.encode()
        for name in path.encode(errors="surrogateescape").split(b"/"):
            above = self._trees.get(oid)
            entry = above.by_name.get(name) if above is not None else None
            if entry is None or entry[0] != TREE:
                return None
            oid = entry[2].hex().encode()
        known = self._trees.get(oid)
        return Object(oid.decode(), "tree", known.body) if known is not None else None

    def listing(self, tree: str, folder: str) -> list[Entry]:
        """The entries of a folder in a tree, one level deep, with their
        whole paths.

        Empty where there is no such folder.
        """
        found = self.at(tree, folder)
        if found is None or found.type != "tree":
            return []
        above = f"{folder}/".encode(errors="surrogateescape") if folder else b""
        # A tree stores `40000` for a folder; everywhere else git writes six
        # digits.
        return [
            Entry(mode.rjust(6, b"0"), raw.hex().encode(), above + name)
            for mode, name, raw in self.trees([found.oid.encode()])[0].listing()
        ]

    def dirty(self) -> list[bytes]:
        """The paths that differ from HEAD on disk: changed, deleted, or new and not ignored."""
        done = self._git(
            "status",
            "--porcelain=v1",
            "-z",
            "--no-renames",
            "--untracked-files=all",
            "--ignore-submodules=none",
        )
        # Each record is two letters of status, a blank and the path.
        return [record[3:] for record in done.stdout.split(b"\0") if record]

    def tracks(self, path: Path) -> bool:
        """Whether a file is in the index."""
        relative = os.path.relpath(path, self.root)
        return bool(self._git("ls-files", "-z", "--", f":(literal){relative}").stdout)

    def files(self) -> list[bytes]:
        """Every file of the index and of the work tree that git does not ignore."""
        done = self._git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        return [path for path in done.stdout.split(b"\0") if path]

    def ignored(self, folder: str) -> list[bytes]:
        """The files below a folder that git ignores."""
        done = self._git(
            "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", folder
        )
        return [path for path in done.stdout.split(b"\0") if path]

    def submodule(self, path: bytes) -> "Repository | None":
        """A submodule's own repository; None where it is not checked out."""
        root = self.root / path.decode(errors="surrogateescape")
        return Repository(root, self._env) if (root / ".git").exists() else None

    @functools.cached_property
    def common_folder(self) -> Path:
        """The git directory that all work trees of the repository share."""
        done = self._git("rev-parse", "--git-common-dir")
        return self.root / done.stdout.decode(errors="surrogateescape").removesuffix("\n")

    def merge_base(self, one: str, other: str) -> str | None:
        """The best common ancestor of two commits; None where this clone knows none."""
        done = self._git("merge-base", oid(one), oid(other), check=False)
        return done.stdout.decode().strip() or None if done.returncode == 0 else None

    @functools.cached_property
    def tags(self) -> tuple[str, ...]:
        """The tags of the commit that is checked out."""
        done = self._git("tag", "--points-at", "HEAD", check=False)
        if done.returncode != 0:
            return ()
        return tuple(done.stdout.decode(errors="replace").splitlines())

    def branch(self) -> str | None:
        """The branch that is checked out; None where HEAD is detached."""
        # In most clones a file says so (gitrepository-layout(5)): git does
        # not have to be started.
        with contextlib.suppress(OSError):
            head = (self.root / ".git" / "HEAD").read_bytes()
            named = _BRANCH.fullmatch(head)
            if named:
                return named[1].decode(errors="replace")

        done = self._git("symbolic-ref", "--quiet", "--short", "HEAD", check=False)
        if done.returncode != 0:
            return None
        return done.stdout.decode(errors="replace").strip() or None

    def remotes(self) -> dict[str, str]:
        """The addresses of the remotes by name, as they are configured."""
        arguments = ["config", "-z", "--local", "--get-regexp", r"^remote\..*\.url$"]
        done = self._git(*arguments, check=False)
        found: dict[str, str] = {}
        for record in done.stdout.decode(errors="replace").split("\0"):
            key, _, address = record.partition("\n")
            if address:
                found.setdefault(key.removeprefix("remote.").removesuffix(".url"), address)
        return found

    def default_branch(self) -> str | None:
        """The default branch of `origin`, as this clone knows it."""
        ref = "refs/remotes/origin/HEAD"
        done = self._git("symbolic-ref", "--quiet", "--short", ref, check=False)
        return done.stdout.decode(errors="replace").strip().removeprefix("origin/") or None

    def worktree_tree(self, index: Path) -> str:
        """Write a tree of the files on disk, without ignored ones; returns
        its id.

        `index` is a path for a temporary index: the repository's own is not
        touched.
        """
        env = {"GIT_INDEX_FILE": str(index)}
        self._git("read-tree", "HEAD", extra=env)
        self._git("add", "--all", "--", ".", extra=env)
        return self._git("write-tree", extra=env).stdout.decode().strip()

    def _git(
        self, *arguments: str, check: bool = True, extra: Mapping[str, str] | None = None
    ) -> "Completed":
        env = {**self._env, **(extra or {})}
        return command.run(arguments, folder=self.root, env=env, check=check)


def oid(name: str) -> str:
    """The name, which must be an object id in hex. Raises ValueError.

    This way git cannot read it as an option or an expression.
    """
    if not is_oid(name):
        message = f"{name!r} is not an object id"
        raise ValueError(message)
    return name
