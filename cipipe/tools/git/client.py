"""The one door to git: plumbing only, bytes throughout, `-z`, and no `GIT_*` variable of the
caller's.

No command here fetches. A path is a repository path as bytes, because git's are.
"""

import contextlib
import functools
import os
import re
import shlex
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cipipe.errors import StageError, UsageError
from cipipe.tools.git.conversation import Conversation
from cipipe.tools.git.objects import LINK, SUBMODULE, TREE, Entry, Object, Tree

if TYPE_CHECKING:
    from cipipe.tools.process import Completed

__all__ = [
    "LINK",
    "SUBMODULE",
    "TREE",
    "Entry",
    "Object",
    "Repository",
    "Tree",
    "oid",
    "scrubbed",
    "version",
]

_REQUEST = 32768
"""Bytes per request: few enough that git's input never fills while git waits for its output to be
read.
"""

_NOT_FETCHED = "from promisor remote"
_FOREIGN = "detected dubious ownership"
_OID = r"[0-9a-f]{40}([0-9a-f]{24})?"
_BRANCH = re.compile(rb"ref: refs/heads/([^.\n].*)\n")
"""HEAD, where it is a file that names a branch. Kept elsewhere (reftable), the file names the
branch `.invalid`.
"""

_KEPT = {"GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM"}


_Take = Callable[[Object | None], None]


class Repository:
    """A git repository, or a bare one. `root` is the top of the work tree (the git directory, if
    bare).
    """

    def __init__(self, root: Path, env: Mapping[str, str]) -> None:
        self.root = root
        self._env = scrubbed(env)
        self._objects: Conversation | None = None
        self._lock = threading.Lock()
        self._trees: dict[bytes, Tree] = {}
        self._blobs: dict[bytes, bytes] = {}

    @classmethod
    def discover(cls, start: Path, env: Mapping[str, str]) -> "Repository":
        """The repository that `start` lies in: the nearest folder upwards with a `.git`, else git
        is asked.
        """
        for folder in (start, *start.parents):
            if (folder / ".git").exists():
                return cls(folder, env)
        from cipipe.tools import process

        done = process.run(
            ["git", "rev-parse", "--is-bare-repository", "--absolute-git-dir"],
            env=scrubbed(env),
            cwd=start,
            check=False,
        )
        bare, _, folder_name = done.stdout.decode(errors="surrogateescape").partition("\n")
        if done.returncode == 0 and bare == "true":
            return cls(Path(folder_name.rstrip("\n")), env)
        if _FOREIGN.encode() in done.stderr:
            raise _foreign(start)
        raise UsageError(
            "git-no-repository",
            f"{start} is not in a git repository",
            hint="Run cipipe inside a clone of the repository; in a CI job, check the checkout step.",
            where=str(start),
        )

    def start(self) -> None:
        """Start git now: it gets ready while its first question is still being found."""
        with self._lock:
            self._talk()

    def objects(self, names: Sequence[str]) -> list[Object | None]:
        """Resolve names such as `HEAD^{commit}` or `HEAD:dbt`; None where there is none.

        One `git cat-file --batch` answers all such questions of a repository, however many there
        are. What a partial clone left out counts as not there.
        """
        if any("\n" in name for name in names):
            raise UsageError(
                "git-bad-revision", "a revision or path with a line break cannot be looked up"
            )
        found: list[Object | None] = []
        self._take(names, found.append)
        return found

    def trees(
        self, names: Sequence[bytes], came: Callable[[bytes, "Tree"], None] | None = None
    ) -> list["Tree"]:
        """The trees of these ids, in hex; each is read once, for it never changes. Raises
        UsageError.

        `came` is told of each one that has to be read, while git reads the next; it may not ask for
        anything itself.
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
            tree = self._trees[name] = Tree(found.body, len(name) // 2)
            if came is not None:
                came(name, tree)

        if missing:
            self._take([name.decode() for name in missing], keep)
        return [self._trees[name] for name in names]

    def commit(self, revision: str) -> Object | None:
        """The commit that a revision names, with its text; None where there is no such commit here."""
        return self.objects([f"{revision}^{{commit}}"])[0]

    def blobs(self, entries: Iterable[Entry], *, keep: bool = False) -> dict[bytes, bytes]:
        """The contents of files, by path; those that are not in this clone are left out.

        `keep`: they will be asked for again, and are few enough to be held until then.
        """
        wanted = list(entries)
        names = list(dict.fromkeys(entry.oid for entry in wanted if entry.oid not in self._blobs))
        objects = zip(names, self.objects([name.decode() for name in names]), strict=True)
        read = {name: found.body for name, found in objects if found is not None}
        if keep:
            self._blobs |= read
        known = self._blobs | read
        return {entry.path: known[entry.oid] for entry in wanted if entry.oid in known}

    def dirty(self) -> list[bytes]:
        """The paths that differ from HEAD on disk: changed, deleted, or new and not ignored."""
        argv = [
            "status",
            "--porcelain=v1",
            "-z",
            "--no-renames",
            "--untracked-files=all",
            "--ignore-submodules=none",
        ]
        return [line[3:] for line in self._git(argv).stdout.split(b"\0") if line]

    def tracks(self, path: Path) -> bool:
        """Whether a file is in the index."""
        relative = os.path.relpath(path, self.root)
        return bool(self._git(["ls-files", "-z", "--", f":(literal){relative}"]).stdout)

    def files(self) -> list[bytes]:
        """Every file of the index and of the work tree that git does not ignore."""
        argv = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        return [path for path in self._git(argv).stdout.split(b"\0") if path]

    def ignored(self, folder: str) -> list[bytes]:
        """The files below a folder that git ignores."""
        argv = ["ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", folder]
        return [path for path in self._git(argv).stdout.split(b"\0") if path]

    def submodule(self, path: bytes) -> "Repository | None":
        """A submodule's own repository; None where it is not checked out."""
        root = self.root / path.decode(errors="surrogateescape")
        return Repository(root, self._env) if (root / ".git").exists() else None

    @functools.cached_property
    def common_folder(self) -> Path:
        """The folder of the repository's own data, which all of its work trees share."""
        done = self._git(["rev-parse", "--git-common-dir"])
        return self.root / done.stdout.decode(errors="surrogateescape").removesuffix("\n")

    def merge_base(self, one: str, other: str) -> str | None:
        done = self._git(["merge-base", oid(one), oid(other)], check=False)
        return done.stdout.decode().strip() or None if done.returncode == 0 else None

    @functools.cached_property
    def tags(self) -> tuple[str, ...]:
        """The tags of the commit that is checked out."""
        done = self._git(["tag", "--points-at", "HEAD"], check=False)
        return (
            tuple(done.stdout.decode(errors="replace").splitlines()) if done.returncode == 0 else ()
        )

    def branch(self) -> str | None:
        """The branch that is checked out; None if HEAD is detached."""
        # In most clones a file says so (gitrepository-layout(5)), and git does not have to be
        # started for it.
        with contextlib.suppress(OSError):
            head = (self.root / ".git" / "HEAD").read_bytes()
            named = _BRANCH.fullmatch(head)
            if named:
                return named[1].decode(errors="replace")
        done = self._git(["symbolic-ref", "--quiet", "--short", "HEAD"], check=False)
        return (
            done.stdout.decode(errors="replace").strip() or None if done.returncode == 0 else None
        )

    def worktree_tree(self, index: Path) -> str:
        """A tree of the files as they lie on disk, ignored ones left out; `index` is a path for a
        temporary index.
        """
        env = {"GIT_INDEX_FILE": str(index)}
        self._git(["read-tree", "HEAD"], extra=env)
        self._git(["add", "--all", "--", "."], extra=env)
        return self._git(["write-tree"], extra=env).stdout.decode().strip()

    def at(self, tree: str, path: str) -> Object | None:
        """What lies at a normalized path in a tree; None where nothing does, or it cannot be asked
        for (`..`, a line break).
        """
        if "\n" in path or path.startswith("/") or path.split("/", maxsplit=1)[0] == "..":
            return None
        return self.objects([f"{tree}:{path}"])[0]

    def listing(self, tree: str, folder: str) -> list[Entry]:
        """The entries of a folder in a tree, one level deep, with their whole paths; none where
        there is no folder.
        """
        found = self.at(tree, folder)
        if found is None or found.type != "tree":
            return []
        below = f"{folder}/".encode(errors="surrogateescape") if folder else b""
        entries = self.trees([found.oid.encode()])[0].listing()
        return [
            Entry(mode.rjust(6, b"0"), oid.hex().encode(), below + name)
            for mode, name, oid in entries
        ]

    def _take(self, names: Sequence[str], take: _Take) -> None:
        """Give the answers to `take`, one by one, in the order of the names."""
        answered = 0

        def counted(found: Object | None) -> None:
            nonlocal answered
            answered += 1
            take(found)

        with self._lock:
            try:
                self._ask(names, counted)
            except StageError as error:
                if _FOREIGN in error.message:
                    raise _foreign(self.root) from error
                # Where git may not fetch, some versions call an object missing, and others (2.39 is
                # one) die of it.
                if _NOT_FETCHED not in error.message:
                    raise
                take(None)
                self._ask_what_is_here(names[answered + 1 :], take)

    def _ask(self, names: Sequence[str], take: _Take) -> None:
        """Give the answers to `take`, as far as git gets."""
        with self._restarting():
            for some in _portions([f"{name}\n".encode(errors="surrogateescape") for name in names]):
                talk = self._talk()
                talk.ask(b"".join(some))
                for _ in some:
                    take(self._answer(talk))

    def _ask_what_is_here(self, names: Sequence[str], take: _Take) -> None:
        """Go on after git died of an object that is not here: object ids are sorted out first,
        other names one by one.
        """
        from cipipe.tools.process import ProcessFailed

        ids = [name for name in names if _is_oid(name)]
        argv = [
            "rev-list",
            "--objects",
            "--no-object-names",
            "--no-walk",
            "--ignore-missing",
            "--missing=allow-any",
        ]
        listed = (
            self._git([*argv, "--stdin"], stdin="".join(f"{name}\n" for name in ids).encode())
            if ids
            else None
        )
        here = set(listed.stdout.decode().split()) if listed else set()
        for name in names:
            known: list[Object | None] = []
            if not _is_oid(name) or name in here:
                with contextlib.suppress(ProcessFailed):
                    self._ask([name], known.append)
            take(known[0] if known else None)

    def _talk(self) -> Conversation:
        if self._objects is None:
            self._objects = Conversation(
                ["git", "-C", str(self.root), "cat-file", "--batch"], env=self._env
            )
        return self._objects

    @contextlib.contextmanager
    def _restarting(self) -> Iterator[None]:
        """After a failure git is started anew: what it still had to say would be taken for the next
        answer.
        """
        try:
            yield
        except BaseException:
            if self._objects is not None:
                self._objects.close()
                self._objects = None
            raise

    def _answer(self, talk: Conversation) -> Object | None:
        header = talk.line().split(b" ")
        if len(header) != 3 or header[-1] in {b"missing", b"ambiguous"}:
            return None
        body = talk.read(int(header[2]) + 1)[:-1]
        return Object(header[0].decode(), header[1].decode(), body)

    def _git(
        self,
        arguments: Sequence[str | bytes],
        *,
        stdin: bytes | None = None,
        check: bool = True,
        extra: Mapping[str, str] | None = None,
    ) -> "Completed":
        from cipipe.tools import process

        argv = [
            "git",
            *(a.decode(errors="surrogateescape") if isinstance(a, bytes) else a for a in arguments),
        ]
        return process.run(
            argv, env={**self._env, **(extra or {})}, cwd=self.root, stdin=stdin, check=check
        )


def _foreign(folder: Path) -> UsageError:
    return UsageError(
        "git-foreign-owner",
        "git does not work in this folder, because it belongs to another user",
        hint=f"Containers often run as another user than the one that cloned. If you trust it: "
        f"git config --global --add safe.directory {shlex.quote(str(folder))}",
        where=str(folder),
    )


def _portions(lines: list[bytes]) -> Iterator[list[bytes]]:
    portion: list[bytes] = []
    size = 0
    for line in lines:
        if portion and size + len(line) > _REQUEST:
            yield portion
            portion, size = [], 0
        portion.append(line)
        size += len(line)
    if portion:
        yield portion


def _is_oid(name: str) -> bool:
    return re.fullmatch(_OID, name) is not None


def version(env: Mapping[str, str]) -> str:
    """The version of git, such as `2.39.5`. Raises ToolMissing."""
    from cipipe.tools import process

    done = process.run(["git", "--version"], env=scrubbed(env))
    return done.stdout.decode(errors="replace").strip().removeprefix("git version ")


def oid(name: str) -> str:
    """The name, which has to be an object id in hex: nothing that git could read as an option or an
    expression.
    """
    if not _is_oid(name):
        message = f"{name!r} is not an object id"
        raise ValueError(message)
    return name


def scrubbed(env: Mapping[str, str]) -> dict[str, str]:
    """An environment in which git looks at the repository it is told of and at nothing else."""
    kept = {key: value for key, value in env.items() if not key.startswith("GIT_") or key in _KEPT}
    return kept | {
        "LC_ALL": "C",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",  # the same for a git that does not know the last one
        "GIT_LITERAL_PATHSPECS": "1",
    }
