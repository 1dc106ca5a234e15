"""One git command, run so that it looks at the given repository and at
nothing else.

No command here fetches, and none asks for a password.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cipipe.errors import UsageError

if TYPE_CHECKING:
    from cipipe.tools.process import Completed

FOREIGN_OWNER = "detected dubious ownership"
"""What git says of a repository that belongs to another user."""

# Where discovery stops is the user's to say; every other GIT_* variable
# could point git elsewhere.
_KEPT = {"GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM"}


def run(
    arguments: Sequence[str],
    *,
    folder: Path,
    env: Mapping[str, str],
    stdin: bytes | None = None,
    check: bool = True,
) -> "Completed":
    """Run git in a folder. Raises ToolMissing, and ProcessFailed where `check` is true."""
    # Imported here: a plan needs one `git cat-file`, which is started
    # without subprocess.
    from cipipe.tools import process

    return process.run(["git", *arguments], env=env, cwd=folder, stdin=stdin, check=check)


def version(env: Mapping[str, str]) -> str:
    """The version of git, such as `2.39.5`. Raises ToolMissing."""
    done = run(["--version"], folder=Path("/"), env=scrubbed(env))
    return done.stdout.decode(errors="replace").strip().removeprefix("git version ")


def scrubbed(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for git: the given one, without what redirects git or lets it fetch."""
    kept = {key: value for key, value in env.items() if not key.startswith("GIT_") or key in _KEPT}
    return kept | {
        "LC_ALL": "C",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        # In a partial clone, git fetches missing objects on demand.
        # Versions before 2.45 do not know the first of these, but cannot
        # fetch without any protocol either.
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_LITERAL_PATHSPECS": "1",
    }


def foreign_owner(folder: Path) -> UsageError:
    """The error for a repository that git refuses because of its owner."""
    command = f"git config --global --add safe.directory {shlex.quote(str(folder))}"
    return UsageError(
        "git-foreign-owner",
        "git does not work in this folder, because it belongs to another user",
        hint="Containers often run as another user than the one that cloned. If you trust it: "
        + command,
        where=str(folder),
    )
