"""Submodules: git has the id of a commit in their place, which another clone below this one has."""

from cipipe.errors import Problem
from cipipe.tools.git.objects import Entry


def absent(path: bytes, entry: Entry) -> Problem:
    """The problem of a submodule whose commit is not on this machine."""
    return Problem(
        id="git-submodule-missing",
        message=f"is a submodule whose commit {entry.oid.decode()[:12]} is not checked out",
        where=path.decode(errors="backslashreplace"),
        hint="Run `git submodule update --init --recursive` before cipipe; on GitHub set "
        "`submodules: recursive` for actions/checkout, on GitLab the variable "
        "GIT_SUBMODULE_STRATEGY: recursive.",
    )
