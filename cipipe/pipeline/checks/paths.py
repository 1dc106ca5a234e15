"""Files and folders that settings name and that do not exist.

`check` looks at all stages, a run at its own. A plan asks git once; only
where something is missing are all files listed, to suggest the nearest one.
"""

import difflib
import posixpath
from collections.abc import Callable, Iterable, Iterator

import msgspec

from cipipe.errors import Problem, ProblemsError
from cipipe.model import Mode, Plan, Status
from cipipe.parse import Located
from cipipe.pipeline.planning.plan import PlanResult
from cipipe.pipeline.project import Project
from cipipe.stages import KINDS
from cipipe.stages.base import RequiredPath
from cipipe.stages.settings import AnyStage
from cipipe.tools.git.client import Repository

# A suggestion compares the name with this many others, at most.
_COMPARED = 5000

# The modes of git's tree entries that paths cannot be followed through:
# links and submodules.
_NOT_FOLLOWED = {b"120000", b"160000"}


def checker(repository: Repository) -> Callable[[AnyStage], Iterator[Problem]]:
    """A function that yields the paths of a stage that are neither in the
    commit nor on disk.

    The stage has its settings filled in.
    """
    head = repository.commit("HEAD")
    search = _Search(repository, head.oid if head is not None else None, disk=True)

    def check(stage: AnyStage) -> Iterator[Problem]:
        wanted = list(KINDS[stage.kind].required_paths(stage))
        for need in search.missing(wanted):
            yield search.problem(need)

    return check


def refuse_missing(project: Project, result: PlanResult, *, allow_empty: bool = False) -> None:
    """Raise ProblemsError where a stage that would run needs a path that
    the commit lacks.

    `allow_empty`: a folder without files is intended. Nothing was started.
    """
    plan = result.executable.plan
    wanted: dict[str, list[RequiredPath]] = {}
    for planned in plan.stages:
        stage = result.snapshot.candidates[planned.name].stage
        if planned.status is Status.UNCHANGED or not _reads_files(stage, plan):
            continue
        needs = KINDS[stage.kind].required_paths(project.config.for_run(stage, plan.environment))
        # A folder that became empty is left to the stage's own safeguard,
        # which knows what was deployed.
        empty = allow_empty or result.stored.get(planned.name) is not None
        wanted[planned.name] = [need for need in needs if not (need.may_vanish and empty)]

    search = _Search(project.repository, result.snapshot.tree, disk=False)
    everything = [need for needs in wanted.values() for need in needs]
    missing = {id(need) for need in search.missing(everything)}
    problems = []
    for name, needs in wanted.items():
        for need in needs:
            if id(need) in missing:
                problem = search.problem(need)
                where = f"stages.{name}.{problem.where}"
                problems.append(msgspec.structs.replace(problem, where=where))
    if problems:
        located = Located(project.config_text.decode(errors="replace"), project.config_path)
        raise ProblemsError(
            "config-invalid",
            f"{project.config_path} names what is not in the commit; nothing was started",
            tuple(located.place(problem) for problem in problems),
        )


def _reads_files(stage: AnyStage, plan: Plan) -> bool:
    """Whether the stage reads files. Of those that are destroyed only Terraform needs its root."""
    return plan.mode is not Mode.DESTROY or bool(
        {"terraform", "tofu"} & set(KINDS[stage.kind].tools(stage))
    )


class _Search:
    """Looks for paths in one tree, and with `disk` among the files that git does not ignore."""

    def __init__(self, repository: Repository, tree: str | None, *, disk: bool) -> None:
        self._repository = repository
        # None where there is no commit yet.
        self._tree = tree
        self._disk = disk
        self._listed: tuple[set[str], set[str]] | None = None

    def missing(self, wanted: list[RequiredPath]) -> list[RequiredPath]:
        """Those that do not exist, or are a file instead of a folder or the other way round."""
        # git reads one question per line.
        askable = [need for need in wanted if "\n" not in need.path]
        types: dict[int, str] = {}
        if self._tree is not None:
            objects = self._repository.at_each(self._tree, [need.path for need in askable])
            for need, found in zip(askable, objects, strict=True):
                if found is not None:
                    types[id(need)] = found.type

        absent = [
            need for need in wanted if types.get(id(need)) != ("tree" if need.folder else "blob")
        ]
        return [need for need in absent if not self._elsewhere(need)]

    def problem(self, need: RequiredPath) -> Problem:
        """What to say about a path that is missing, with a suggestion where there is one."""
        what = "folder" if need.folder else "file"
        folders, files = self._names()
        known, others = (folders, files) if need.folder else (files, folders)
        if need.path in others:
            actual = "file" if need.folder else "folder"
            message = f"{need.path!r} is a {actual} and must be a {what}"
            return Problem("config-path-missing", message, need.key)

        hint = _suggestion(need.path, known)
        if hint is None and (self._repository.root / need.path).exists():
            hint = "It is on disk: git ignores it, or it is empty, or it is not committed yet."
        message = f"there is no {what} {need.path!r}"
        return Problem(id="config-path-missing", message=message, where=need.key, hint=hint)

    def _elsewhere(self, need: RequiredPath) -> bool:
        """Whether a path that the tree lacks exists: on disk, behind a link, or in a submodule."""
        path = self._repository.root / need.path
        on_disk = path.is_dir() and any(path.iterdir()) if need.folder else path.is_file()
        if on_disk and need.on_disk:
            return True
        if self._disk and on_disk:
            folders, files = self._names()
            if need.path in (folders if need.folder else files):
                return True
        return self._beyond(need.path)

    def _beyond(self, path: str) -> bool:
        """Whether a folder on the way is a link or a submodule, which the tree does not follow."""
        if self._tree is None:
            return False
        above = ""
        for name in path.split("/"):
            here = f"{above}/{name}" if above else name
            modes = {
                entry.path.decode(errors="surrogateescape"): entry.mode
                for entry in self._repository.listing(self._tree, above)
            }
            if modes.get(here) in _NOT_FOLLOWED:
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
    """The nearest name: of the same name elsewhere, beside the wanted one, or by its spelling."""
    names = sorted(known)
    folder, _, name = path.rpartition("/")
    near = [one for one in names if one.rpartition("/")[2] == name][:1]
    if not near:
        beside = [one.rpartition("/")[2] for one in names if one.rpartition("/")[0] == folder]
        similar = difflib.get_close_matches(name, list(filter(None, beside[:_COMPARED])), n=1)
        near = [posixpath.join(folder, one) for one in similar]
    if not near:
        near = difflib.get_close_matches(path, names[:_COMPARED], n=1)
    return f"Perhaps you meant {near[0]!r}." if near else None
