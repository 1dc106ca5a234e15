"""Files and folders that settings name and that are not there: for `check` all of them, for a run
those of its stages.

A plan asks git once. Only where something is missing are the files listed, to suggest what was
meant.
"""

import difflib
import posixpath
from collections.abc import Callable, Iterable, Iterator

import msgspec

from cipipe.errors import Problem, ProblemsError
from cipipe.model import Mode, Status
from cipipe.parse import Located
from cipipe.pipeline.planning import PlanResult
from cipipe.pipeline.project import Project
from cipipe.stages import KINDS
from cipipe.stages.base import RequiredPath
from cipipe.stages.settings import AnyStage, replaced
from cipipe.tools.git.client import Repository

_COMPARED = 5000
"""How many names a suggestion is looked for among, at most."""


def checker(repository: Repository) -> Callable[[AnyStage], Iterator[Problem]]:
    """What tells of a stage, with its settings filled in, which of its paths are neither in the
    commit nor on disk.
    """
    head = repository.commit("HEAD")
    tree = head.oid if head is not None else None
    look = _Look(repository, tree, disk=True)

    def check(stage: AnyStage) -> Iterator[Problem]:
        wanted = list(KINDS[stage.kind].required_paths(stage))
        for need in look.missing(wanted):
            yield look.problem(need)

    return check


def refuse_missing(project: Project, planning: PlanResult, *, allow_empty: bool = False) -> None:
    """Raise ProblemsError where a stage that is to run needs what the commit does not have. Nothing
    was started.
    """
    plan, look = (
        planning.executable.plan,
        _Look(project.repository, planning.snapshot.tree, disk=False),
    )
    wanted: dict[str, list[RequiredPath]] = {}
    for planned in plan.stages:
        stage = planning.snapshot.candidates[planned.name].stage
        if planned.status is Status.UNCHANGED or (
            plan.mode is Mode.DESTROY and "terraform" not in KINDS[stage.kind].tools(stage)
        ):
            continue
        settings = replaced(
            stage.settings,
            lambda v: project.config.expanded(v, plan.environment) if isinstance(v, str) else v,
        )
        needs = KINDS[stage.kind].required_paths(msgspec.structs.replace(stage, settings=settings))
        # A folder that became empty is for the stage's own safeguard, which knows what was
        # deployed.
        empty = allow_empty or planning.held.get(planned.name) is not None
        wanted[planned.name] = [need for need in needs if not (need.may_vanish and empty)]
    missing = {
        id(need) for need in look.missing([need for needs in wanted.values() for need in needs])
    }
    problems = [
        msgspec.structs.replace(problem, where=f"stages.{name}.{problem.where}")
        for name, needs in wanted.items()
        for problem in (look.problem(need) for need in needs if id(need) in missing)
    ]
    if problems:
        located = Located(project.config_text.decode(errors="replace"), project.config_path)
        raise ProblemsError(
            "config-invalid",
            f"{project.config_path} names what is not in the commit; nothing was started",
            tuple(located.place(problem) for problem in problems),
        )


class _Look:
    """One tree (and, with `disk`, the files on disk that git does not ignore), asked for paths."""

    def __init__(self, repository: Repository, tree: str | None, *, disk: bool) -> None:
        self._repository = repository
        self._tree = tree
        self._disk = disk
        self._listed: tuple[set[str], set[str]] | None = None

    def missing(self, wanted: list[RequiredPath]) -> list[RequiredPath]:
        """Those that are not there, or not what they have to be."""
        asked = [need for need in wanted if "\n" not in need.path]
        if self._tree is None:
            found: list[str | None] = [None] * len(asked)
        else:
            objects = self._repository.at_each(self._tree, [need.path for need in asked])
            found = [one.type if one is not None else None for one in objects]
        kinds = dict(zip(map(id, asked), found, strict=True))
        absent = [
            need for need in wanted if kinds.get(id(need)) != ("tree" if need.folder else "blob")
        ]
        return [need for need in absent if not self._elsewhere(need)]

    def problem(self, need: RequiredPath) -> Problem:
        what = "folder" if need.folder else "file"
        folders, files = self._names()
        known, others = (folders, files) if need.folder else (files, folders)
        if need.path in others:
            message = (
                f"{need.path!r} is a {'file' if need.folder else 'folder'}, and has to be a {what}"
            )
            return Problem("config-path-missing", message, need.key)
        hint = _suggestion(need.path, known)
        if hint is None and (self._repository.root / need.path).exists():
            hint = "It is on disk: git ignores it, or it is empty, or it is not committed yet."
        return Problem("config-path-missing", f"there is no {what} {need.path!r}", need.key, hint)

    def _elsewhere(self, need: RequiredPath) -> bool:
        """Whether what the tree lacks is there all the same: on disk, behind a link, or in a
        submodule.
        """
        path = self._repository.root / need.path
        on_disk = path.is_dir() and any(path.iterdir()) if need.folder else path.is_file()
        if on_disk and need.on_disk:
            return True
        if self._disk and on_disk and need.path in self._names()[0 if need.folder else 1]:
            return True
        return self._beyond(need.path)

    def _beyond(self, path: str) -> bool:
        """Whether a folder on the way is a link or a submodule, into which the tree cannot tell the
        way.
        """
        if self._tree is None:
            return False
        parts = path.split("/")
        above = ""
        for part in parts:
            here = f"{above}/{part}" if above else part
            entries = {
                entry.path.decode(errors="surrogateescape"): entry.mode
                for entry in self._repository.listing(self._tree, above)
            }
            if entries.get(here) in {b"120000", b"160000"}:
                return True
            above = here
        return False

    def _names(self) -> tuple[set[str], set[str]]:
        """All folders and files, of the commit and of the work tree."""
        if self._listed is None:
            files = {path.decode(errors="surrogateescape") for path in self._repository.files()}
            folders = {""}
            for file in files:
                folder = posixpath.dirname(file)
                while folder and folder not in folders:
                    folders.add(folder)
                    folder = posixpath.dirname(folder)
            self._listed = folders, files
        return self._listed


def _suggestion(path: str, known: Iterable[str]) -> str | None:
    """The nearest name there is: beside the wanted one, of the same name elsewhere, or by its
    spelling.
    """
    names = sorted(known)
    folder, _, name = path.rpartition("/")
    beside = [one.rpartition("/")[2] for one in names if one.rpartition("/")[0] == folder and one]
    near = [one for one in names if one.rpartition("/")[2] == name][:1]
    near = near or [
        posixpath.join(folder, one)
        for one in difflib.get_close_matches(name, beside[:_COMPARED], n=1)
    ]
    near = near or difflib.get_close_matches(path, names[:_COMPARED], n=1)
    return f"Perhaps you meant {near[0]!r}." if near else None
