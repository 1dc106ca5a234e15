"""A real git repository in a folder, to write files into and commit. No configuration of the
machine reaches it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from cipipe import tree_files
from cipipe.patterns import PatternIndex, Patterns
from cipipe.tools import process
from cipipe.tools.git.client import Entry, Repository

ENV = {
    **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_COMMITTER_DATE": "2026-01-02T03:04:05+00:00",
    "GIT_AUTHOR_DATE": "2026-01-02T03:04:05+00:00",
    **{
        f"GIT_{who}_{what}": "x@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    },
}

HOSTILE = (
    b"new\nline.sql",
    b"$(touch executed)",
    b"`touch executed`",
    b"'single' \"double\"",
    b"-rf",
    b"--output=executed",
    b"caf\xe9.sql",
    b"*.sql",
    b":(top)magic",
    b"tab\tbackslash\\",
    b" space ",
)
"""Names that git stores, and that a shell, a line-by-line reader or a pathspec would trip over."""

Content = str | bytes | None


class Repo:
    """`root` is the work tree. Paths are text, or bytes where they are not UTF-8."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main", *options)

    def git(self, *arguments: str | bytes, check: bool = True, **env: str) -> str:
        done = process.run(
            ["git", *map(os.fsdecode, arguments)], env=ENV | env, cwd=self.root, check=check
        )
        return done.stdout.decode(errors="surrogateescape").removesuffix("\n")

    def write(
        self, files: Mapping[str | bytes, Content] | Mapping[str, Content] | Mapping[bytes, Content]
    ) -> None:
        """Write files; None deletes one."""
        for name, content in files.items():
            path = Path(self.root, os.fsdecode(name))
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(
        self,
        files: Mapping[str | bytes, Content]
        | Mapping[str, Content]
        | Mapping[bytes, Content]
        | None = None,
    ) -> str:
        """Write files, commit all that lies on disk, and give the commit's id."""
        self.write(files or {})
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--message", "x", "--allow-empty")
        return self.head

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    @property
    def tree(self) -> str:
        return self.git("rev-parse", "HEAD^{tree}")

    def clone(self, to: Path, *options: str) -> "Repo":
        self.git("clone", "--quiet", *options, self.root.as_uri(), str(to))
        made = Repo.__new__(Repo)
        made.root = to
        return made

    def repository(self, **env: str) -> Repository:
        """The client under test, with this environment and what is given."""
        return Repository(self.root, ENV | env)

    def add_submodule(self, path: str, commit: str) -> None:
        """A submodule as a clone has it that did not check it out: an entry in the index, an empty
        folder.
        """
        self.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
        (self.root / path).mkdir(parents=True, exist_ok=True)


def files(client: Repository, tree: str, *patterns: str) -> list[Entry]:
    """The files of a tree that the patterns match, in the order of their paths."""
    return sorted(
        tree_files.files(client, tree, Patterns(patterns or ("**",))), key=lambda entry: entry.path
    )


def changed(client: Repository, old: str, new: str) -> list[bytes]:
    """The paths that differ between two trees."""
    index = PatternIndex({"all": Patterns(["**"])})
    return list(tree_files.changed(client, old, new, index).get("all", ()))
