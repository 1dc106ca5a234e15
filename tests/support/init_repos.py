"""Repositories that `cipipe init` is run in."""

import tomllib
from pathlib import Path
from typing import Any

from support.command import Cli, Done
from support.git import Repo


def made(folder: Path, files: dict[str, str], *, commit: bool = True) -> tuple[Repo, Cli]:
    """A repository at gitlab.com."""
    repo = Repo(folder / "shop")
    repo.git("remote", "add", "origin", "git@gitlab.com:data/shop.git")
    repo.write(files)
    if commit:
        repo.commit()
    return repo, Cli(repo.root)


def written(repo: Repo) -> dict[str, Any]:
    return tomllib.loads((repo.root / "cipipe.toml").read_text())


def contents(repo: Repo) -> dict[str, bytes]:
    """Every file of the work tree, whatever wrote it."""
    return {
        str(path.relative_to(repo.root)): path.read_bytes()
        for path in repo.root.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(repo.root).parts
    }


def ok(done: Done) -> Done:
    assert done.status == 0, done.err
    return done
