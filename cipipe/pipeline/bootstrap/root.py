"""Which Terraform root `cipipe bootstrap` applies: cipipe's own, or the one
of `[bootstrap] root`.

No other folder of a repository is ever applied: a `terraform/bootstrap` may
contain anything.
"""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cipipe.errors import UsageError
from cipipe.model import Environment
from cipipe.pipeline.project import Project

SHIPPED = Path(__file__).parents[2] / "bootstrap"
"""cipipe's own root, in the installed package, which may not be writable."""

# The folder that an earlier version of cipipe applied by default.
_FORMER = "terraform/bootstrap"

_LOCK_FILE = ".terraform.lock.hcl"

# What a name of a resource may contain.
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

# The output that every root must have.
_REQUIRED = "deploy_role_arn"


def chosen(project: Project, line: Callable[[str], None]) -> Path:
    """The root's folder. Raises UsageError."""
    named = project.config.bootstrap.root
    if named is None:
        _check_former(project.repository.root / _FORMER, line)
        return SHIPPED
    folder = project.repository.root / named
    if not any(folder.glob("*.tf")):
        raise UsageError(
            "bootstrap-root-missing",
            f"there is no Terraform root in {named}",
            hint="Correct `root` under [bootstrap], or remove it to apply cipipe's own root.",
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
        for file in root.glob("*.tf"):
            shutil.copyfile(file, copy / file.name)
        shutil.copyfile(root / _LOCK_FILE, copy / _LOCK_FILE)
        yield copy


def refuse_names(project: str, environment: str) -> None:
    """Refuse names that cannot be in those of resources, as cipipe's own root puts them there.

    Raises UsageError `bootstrap-bad-name`.
    """
    limits = {"project.name": (project, 24), f"environments.{environment}": (environment, 12)}
    for where, (name, longest) in limits.items():
        if len(name) > longest or not _NAME.fullmatch(name):
            raise UsageError(
                "bootstrap-bad-name",
                f"{name!r} cannot be part of the names of buckets and roles",
                hint="Use lower-case letters, digits and single hyphens, starting with a letter: "
                f"{longest} characters at most. Or apply a root of your own: [bootstrap] root.",
                where=where,
            )


def refuse_own_roles(project: str, name: str, environment: Environment) -> None:
    """Refuse roles below the path of those that the pipeline creates and changes.

    Raises UsageError `bootstrap-role-path`.
    """
    for key in ("role_arn", "verify_role_arn"):
        path = (getattr(environment, key) or "").partition(":role")[2]
        if path.startswith(f"/{project}/{name}/"):
            raise UsageError(
                "bootstrap-role-path",
                f"the deploy role may change every role below {project}/{name}/, and so this one",
                hint=f"Give it another path, or none: …:role/{project}-{name}-deploy.",
                where=f"environments.{name}.{key}",
            )


def refuse_other_outputs(project: Project, outputs: frozenset[str]) -> None:
    """Refuse a root that does not make what cipipe needs, before it is
    applied.

    Raises UsageError `bootstrap-root-outputs`.
    """
    if _REQUIRED not in outputs:
        raise UsageError(
            "bootstrap-root-outputs",
            f"{project.config.bootstrap.root} has no output {_REQUIRED}; nothing was applied",
            hint="Name a root that creates the deploy role and has that output, or remove `root` "
            "under [bootstrap] to apply cipipe's own.",
            where="bootstrap.root",
        )


def _check_former(folder: Path, line: Callable[[str], None]) -> None:
    """Report a root that an earlier version applied and this one does not.

    Raises UsageError where applying cipipe's own root would undo a team's
    changes.
    """
    files = {file.name: file.read_bytes() for file in folder.glob("*.tf")}
    if not files or all(_same(SHIPPED / name, content) for name, content in files.items()):
        return
    # Only a copy of cipipe's own root has this variable, a root of the
    # team's does not.
    if any(b'variable "deploy_role_name"' in content for content in files.values()):
        raise UsageError(
            "bootstrap-root-unnamed",
            f"{_FORMER} is another version of cipipe's own bootstrap, and no setting says which of "
            "the two to apply",
            hint=f'To apply that folder, set `root = "{_FORMER}"` under [bootstrap]; to apply '
            "cipipe's own, delete it.",
            where=_FORMER,
        )
    line(f"{_FORMER} is not applied: [bootstrap] root does not name it")


def _same(file: Path, content: bytes) -> bool:
    return file.is_file() and file.read_bytes() == content
