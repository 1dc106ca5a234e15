"""The files that matter to an adoption, by path.

Only regular files of the repository are read: no links, no submodules,
nothing that git ignores, nothing large, and no name that cipipe.toml could
not contain.
"""

import re
import stat
from collections.abc import Callable, Mapping

from cipipe import bounded
from cipipe.tools.git.client import Repository

Files = Mapping[str, bytes]
"""Contents by path, which is relative to the top of the repository; in alphabetical order."""

_LARGEST = 512 * bounded.KIB

# What a path in TOML may have without being a pattern, a placeholder or a
# surprise.
_PLAIN = re.compile(r"[\w.+@ ,/-]+", re.ASCII)

_READ = re.compile(r"\.(tf|tf\.json|tfvars|py)\Z|(\A|/)(Dockerfile)\Z")
_KNOWN = re.compile(r"(\A|/)(dbt_project\.yml|requirements\.txt|startup\.sh)\Z")
_PIPELINE = re.compile(r"\A(\.gitlab-ci\.yml|\.github/workflows/[^/]+\.ya?ml)\Z")


def read(repository: Repository) -> Files:
    """The files. Those whose name alone matters have no content."""
    found = {}
    for raw in sorted(set(repository.files())):
        path = raw.decode(errors="replace")
        if not _PLAIN.fullmatch(path) or path != path.strip():
            continue
        if _READ.search(path) or _PIPELINE.search(path):
            body = _body(repository, path)
            if body is not None:
                found[path] = body
        elif _KNOWN.search(path):
            found[path] = b""
    return found


def folder(path: str) -> str:
    """The folder that a file is in; the top is `.`."""
    return path.rpartition("/")[0] or "."


def grouped(files: Files, wanted: Callable[[str], bool]) -> dict[str, dict[str, bytes]]:
    """The files with such a name by folder, and there by name."""
    groups: dict[str, dict[str, bytes]] = {}
    for path, body in files.items():
        name = path.rpartition("/")[2]
        if wanted(name):
            groups.setdefault(folder(path), {})[name] = body
    return groups


def _body(repository: Repository, path: str) -> bytes | None:
    file = repository.root / path
    try:
        # A folder on the way may be a link, too.
        if file.resolve() != repository.root.resolve() / path:
            return None
        if not stat.S_ISREG(file.lstat().st_mode):
            return None
        return bounded.read(file, largest=_LARGEST)
    except (OSError, ValueError):
        return None
