"""The one door to git: plumbing only, bytes throughout, `-z`, and no `GIT_*` variable of the caller's.

No command here fetches. A path is a repository path as bytes, because git's are.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from cipipe.errors import UsageError
from cipipe.tools import process

_OID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_KEPT = {"GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM"}


class Entry(msgspec.Struct, frozen=True):
    """One entry of a git tree: `mode` as six octal digits, `oid` in hex, `path` from the top of the repository."""

    mode: bytes
    oid: bytes
    path: bytes

    @property
    def is_tree(self) -> bool:
        return self.mode == b"040000"

    @property
    def is_blob(self) -> bool:
        return self.mode in {b"100644", b"100755"}


class Object(msgspec.Struct, frozen=True):
    """One object as `git cat-file --batch` gives it."""

    oid: str
    type: str
    body: bytes


class Repository:
    """A git repository, or a bare one. `root` is the top of the work tree (the git directory, if bare)."""

    def __init__(self, root: Path, env: Mapping[str, str]) -> None:
        self.root = root
        self._env = scrubbed(env)

    @classmethod
    def discover(cls, start: Path, env: Mapping[str, str]) -> "Repository":
        """The repository that `start` lies in: the nearest folder upwards with a `.git`, else git is asked."""
        for folder in (start, *start.parents):
            if (folder / ".git").exists():
                return cls(folder, env)
        done = process.run(
            ["git", "rev-parse", "--is-bare-repository", "--absolute-git-dir"],
            env=scrubbed(env),
            cwd=start,
            check=False,
        )
        bare, _, folder_name = done.stdout.decode(errors="surrogateescape").partition("\n")
        if done.returncode == 0 and bare == "true":
            return cls(Path(folder_name.rstrip("\n")), env)
        raise UsageError(
            "git-no-repository",
            f"{start} is not in a git repository",
            hint="Run cipipe inside a clone of the repository; in a CI job, check the checkout step.",
            where=str(start),
        )

    def objects(self, names: Sequence[str], *, contents: bool = True) -> list[Object | None]:
        """Resolve names such as `HEAD^{commit}` or `HEAD:dbt`, all in one git command; None where there is none.

        `contents=False` gives empty bodies, and never fetches a blob in a partial clone.
        """
        if not names:
            return []
        if any("\n" in name for name in names):
            raise UsageError("git-bad-revision", "a revision or path with a line break cannot be looked up")
        request = "".join(f"{name}\n" for name in names).encode(errors="surrogateescape")
        flag = "--batch" if contents else "--batch-check"
        answer = self._git(["cat-file", flag], stdin=request).stdout
        found: list[Object | None] = []
        position = 0
        for _ in names:
            end = answer.index(b"\n", position)
            header = answer[position:end].split(b" ")
            position = end + 1
            if header[-1] in {b"missing", b"ambiguous"} or len(header) != 3:
                found.append(None)
                continue
            oid, kind, size = header[0].decode(), header[1].decode(), int(header[2])
            body = b""
            if contents:
                body = answer[position : position + size]
                position += size + 1
            found.append(Object(oid, kind, body))
        return found

    def commit(self, revision: str) -> Object | None:
        """The commit that a revision names, with its text; None where there is no such commit here."""
        return self.objects([f"{revision}^{{commit}}"])[0]

    def entries(self, tree: str, paths: Sequence[bytes] = (), *, recursive: bool = True) -> list[Entry]:
        """The entries of a tree at and below `paths` (all of it, if empty); with `recursive`, files only."""
        argv: list[str | bytes] = ["ls-tree", "-z", "--full-tree", *(["-r"] if recursive else []), oid(tree)]
        answer = self._git([*argv, "--", *paths]).stdout
        entries = []
        for line in answer.split(b"\0"):
            if line:
                head, _, path = line.partition(b"\t")
                mode, _, name = head.split(b" ")
                entries.append(Entry(mode, name, path))
        return entries

    def blobs(self, entries: Iterable[Entry]) -> dict[bytes, bytes]:
        """The contents of files, by path; one git command for all of them."""
        wanted = list(entries)
        objects = self.objects([entry.oid.decode() for entry in wanted])
        return {entry.path: found.body for entry, found in zip(wanted, objects, strict=True) if found is not None}

    def changed(self, old: str, new: str) -> list[bytes]:
        """The paths that differ between two trees or commits; a rename is two of them."""
        argv = ["diff-tree", "-r", "-z", "--no-renames", "--name-only", "--no-commit-id", oid(old), oid(new)]
        return [path for path in self._git(argv).stdout.split(b"\0") if path]

    def dirty(self) -> list[bytes]:
        """The paths that differ from HEAD on disk: changed, deleted, or new and not ignored."""
        argv = ["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=none"]
        return [line[3:] for line in self._git(argv).stdout.split(b"\0") if line]

    def merge_base(self, one: str, other: str) -> str | None:
        done = self._git(["merge-base", oid(one), oid(other)], check=False)
        return done.stdout.decode().strip() or None if done.returncode == 0 else None

    def branch(self) -> str | None:
        """The branch that is checked out; None if HEAD is detached."""
        done = self._git(["symbolic-ref", "--quiet", "--short", "HEAD"], check=False)
        return done.stdout.decode(errors="replace").strip() or None if done.returncode == 0 else None

    def default_branch(self) -> str | None:
        """What `origin/HEAD` points to, such as `origin/main`."""
        done = self._git(["symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"], check=False)
        return done.stdout.decode(errors="replace").strip() or None if done.returncode == 0 else None

    def worktree_tree(self, index: Path) -> str:
        """A tree of the files as they lie on disk, ignored ones left out; `index` is a path for a temporary index."""
        env = {"GIT_INDEX_FILE": str(index)}
        self._git(["read-tree", "HEAD"], extra=env)
        self._git(["add", "--all", "--", "."], extra=env)
        return self._git(["write-tree"], extra=env).stdout.decode().strip()

    def archive(self, tree: str, folder: str) -> bytes:
        """A tar of a folder of a tree, its paths relative to that folder."""
        name = f"{oid(tree)}:{folder}" if folder not in {"", "."} else oid(tree)
        return self._git(["archive", "--format=tar", name]).stdout

    def _git(
        self,
        arguments: Sequence[str | bytes],
        *,
        stdin: bytes | None = None,
        check: bool = True,
        extra: Mapping[str, str] | None = None,
    ) -> process.Completed:
        argv = ["git", *(a.decode(errors="surrogateescape") if isinstance(a, bytes) else a for a in arguments)]
        return process.run(argv, env={**self._env, **(extra or {})}, cwd=self.root, stdin=stdin, check=check)


def oid(name: str) -> str:
    """The name, which has to be an object id in hex: nothing that git could read as an option or an expression."""
    if not _OID.fullmatch(name):
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
        "GIT_LITERAL_PATHSPECS": "1",
    }
