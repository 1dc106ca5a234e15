"""Which Terraform root `cipipe bootstrap` applies: the one that is part of cipipe, or the one that
`[bootstrap] root` names.

No other folder of a repository is ever applied: a `terraform/bootstrap` may be anything.
"""

import contextlib
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cipipe.errors import UsageError
from cipipe.pipeline.project import Project

SHIPPED = Path(__file__).parents[2] / "bootstrap"
"""cipipe's own root, which lies in the installed package and may not be writable."""

_FORMER = "terraform/bootstrap"
_LOCK = ".terraform.lock.hcl"
_NEEDED = "deploy_role_arn"


def chosen(project: Project, line: Callable[[str], None]) -> Path:
    """The root's folder. Raises UsageError."""
    named = project.config.bootstrap.root
    if named is None:
        _look_at_former(project.repository.root / _FORMER, line)
        return SHIPPED
    folder = project.repository.root / named
    if not any(folder.glob("*.tf")):
        raise UsageError(
            "bootstrap-root-missing",
            f"there is no Terraform root in {named}",
            hint="Correct `root` under [bootstrap], or remove it: cipipe then applies its own root.",
            where="bootstrap.root",
        )
    return folder


@contextlib.contextmanager
def prepared(root: Path) -> Iterator[Path]:
    """A folder to run Terraform in: a private copy of cipipe's own root, any other root itself."""
    if root != SHIPPED:
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="cipipe-bootstrap-") as scratch:
        copy = Path(scratch) / "bootstrap"
        copy.mkdir()
        for file in (*root.glob("*.tf"), root / _LOCK):
            # The lock file has the checksum for pipelines' platform only, and Terraform refuses it
            # on any other.
            if file.name != _LOCK or (sys.platform, platform.machine()) == ("linux", "x86_64"):
                shutil.copyfile(file, copy / file.name)
        yield copy


def refuse_other_outputs(project: Project, outputs: frozenset[str]) -> None:
    """Refuse, before it is applied, a root that does not make what cipipe needs. Raises UsageError."""
    if _NEEDED not in outputs:
        raise UsageError(
            "bootstrap-root-outputs",
            f"{project.config.bootstrap.root} has no output {_NEEDED}; nothing was applied",
            hint="Name a root that creates the deploy role and has that output, or remove `root` under [bootstrap]: "
            "cipipe then applies its own.",
            where="bootstrap.root",
        )


def _look_at_former(folder: Path, line: Callable[[str], None]) -> None:
    """Say that a root is not used which an earlier version took by default; refuse where that
    undoes a team's changes.
    """
    files = {file.name: file.read_bytes() for file in folder.glob("*.tf")}
    if not files or all(_same(SHIPPED / name, content) for name, content in files.items()):
        return
    if any(b'variable "deploy_role_name"' in content for content in files.values()):
        raise UsageError(
            "bootstrap-root-unnamed",
            f"{_FORMER} is another version of cipipe's own bootstrap, and no setting says which of the two is meant",
            hint=f'To apply that folder, set `root = "{_FORMER}"` under [bootstrap]; to apply cipipe\'s own, delete it.',
            where=_FORMER,
        )
    line(f"{_FORMER} is not applied: [bootstrap] root does not name it")


def _same(file: Path, content: bytes) -> bool:
    return file.is_file() and file.read_bytes() == content
