"""The build context of an image: the stage's files in the commit, including
those of submodules and of Git LFS.

A file that is part of the content and is not on this machine is an error:
an image without it would keep the content's tag forever.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cipipe import tree_files
from cipipe.errors import Problem, ProblemsError, StageError
from cipipe.patterns import Patterns
from cipipe.stages.context import StageContext
from cipipe.stages.image.settings import ImageSettings
from cipipe.tools.docker import context as docker_context
from cipipe.tools.docker import dockerignore
from cipipe.tools.git import lfs, submodules
from cipipe.tools.git.client import SUBMODULE, Entry, Repository


@dataclass(frozen=True)
class BuildContext:
    """The files of a context, and the rules that select those that are sent to Docker."""

    files: docker_context.Files
    rules: docker_context.IgnoreRules
    # Relative to the top of the context.
    dockerfile: str
    # Seconds since the epoch: the time of every file.
    created: int

    def sizes(self) -> dict[str, int]:
        """Bytes of each file that is sent."""
        files = docker_context.sent(self.files, self.rules, dockerfile=self.dockerfile)
        return {path: len(file.body) for path, file in files.items()}

    def tar(self) -> bytes:
        """For Docker's classic builder."""
        files = docker_context.sent(self.files, self.rules, dockerfile=self.dockerfile)
        return docker_context.packed(files, created=self.created)

    def write(self, folder: Path) -> None:
        """For BuildKit, whose client reads a folder."""
        docker_context.unpacked(
            self.files, self.rules, folder, dockerfile=self.dockerfile, created=self.created
        )


def build_context(context: StageContext[ImageSettings]) -> BuildContext:
    """The context of an image stage. Raises ProblemsError, StageError, UsageError."""
    settings = context.stage.settings
    folder = settings.context.strip("/")
    below = f"{folder}/" if folder not in {"", "."} else ""
    patterns = Patterns(context.stage.paths)
    gathered = _Gathered(
        below=below.encode(),
        excluded=lambda path: patterns.names(path) and not patterns.matches(path),
    )
    gathered.add(context.repository, context.entries)
    _refuse_unfetched(context, gathered, folder)

    rules = docker_context.ignore_rules(gathered.files, settings.dockerfile)
    problems = _problems(gathered, rules)
    if problems:
        raise ProblemsError(
            "image-context-incomplete",
            "files of the build context are not in this clone",
            problems,
        )
    return BuildContext(
        files=gathered.files,
        rules=rules,
        dockerfile=settings.dockerfile,
        created=context.commit_time,
    )


def _refuse_unfetched(
    context: StageContext[ImageSettings], gathered: "_Gathered", folder: str
) -> None:
    if gathered.unfetched:
        message = "git does not have the contents of all files"
    elif not gathered.files and not gathered.missing:
        message = f"none of the stage's files is in {folder}"
    else:
        return
    raise StageError(
        "image-context-missing",
        message,
        hint="Files that the stage's `paths` do not cover, or that are not committed, are not in "
        "the image. A partial clone has to be fetched without --filter.",
        where=f"stages.{context.stage.name}.context",
    )


def _problems(gathered: "_Gathered", rules: docker_context.IgnoreRules) -> tuple[Problem, ...]:
    """Those of missing files that would be sent to Docker."""
    ignored = dockerignore.ignored(rules.patterns, gathered.missing)
    return tuple(
        problem
        for path, problem in sorted(gathered.missing.items())
        # An exception (`!file`) may bring back a file of an ignored
        # submodule. Nobody knows before its files are here.
        if not path
        or path not in ignored
        or (path in gathered.submodules and rules.have_exceptions)
    )


@dataclass
class _Gathered:
    """Files, and problems of missing files, by path from the top of the context."""

    # The folder of the context with a slash at its end; empty for the top
    # of the repository.
    below: bytes
    # Whether the stage's `paths` exclude a path.
    excluded: Callable[[bytes], bool]
    files: dict[str, docker_context.File] = field(default_factory=dict, init=False)
    # The path of a submodule that has the whole context in it is empty.
    missing: dict[str, Problem] = field(default_factory=dict, init=False)
    # Those of `missing` that are submodules.
    submodules: set[str] = field(default_factory=set, init=False)
    # Git does not have some contents: this is a partial clone.
    unfetched: bool = field(default=False, init=False)

    def add(self, repository: Repository, entries: Iterable[Entry], above: bytes = b"") -> None:
        """Add the files of a checkout at `above` (empty, or with a slash at its end)."""
        wanted = [entry for entry in entries if self._reaches(above + entry.path, entry.mode)]
        own = {entry.path: entry for entry in wanted if entry.mode != SUBMODULE}
        bodies = repository.blobs(own.values())
        self.unfetched = self.unfetched or len(bodies) != len(own)

        regular = {path: body for path, body in bodies.items() if own[path].is_blob}
        for path, pointer in lfs.pointers(regular):
            body = lfs.content(repository, path, pointer)
            if body is None:
                shown = (above + path).decode(errors="backslashreplace")
                self.missing[self._name(above + path)] = lfs.absent(shown, pointer)
            else:
                bodies[path] = body

        for path, body in bodies.items():
            self.files[self._name(above + path)] = docker_context.File(own[path].mode, body)
        for entry in wanted:
            if entry.mode == SUBMODULE:
                self._add_submodule(repository, entry, above)

    def _add_submodule(self, repository: Repository, entry: Entry, above: bytes) -> None:
        path = above + entry.path
        inner = repository.submodule(entry.path)
        tree = inner.objects([f"{entry.oid.decode()}^{{tree}}"])[0] if inner else None
        if inner is None or tree is None:
            self._miss(submodules.absent(path, entry), path)
        elif changed := inner.dirty():
            first = changed[0].decode(errors="backslashreplace")
            problem = Problem(
                id="git-submodule-dirty",
                message=f"is a submodule with files that differ from its commit, such as {first}",
                where=path.decode(errors="backslashreplace"),
                hint="Commit them there, and then the submodule here; or undo them.",
            )
            self._miss(problem, path)
        else:
            folder = path + b"/"
            files = tree_files.below(inner, tree.oid, b"")
            self.add(inner, [f for f in files if not self.excluded(folder + f.path)], folder)

    def _miss(self, problem: Problem, submodule: bytes) -> None:
        name = self._name(submodule)
        self.missing[name] = problem
        self.submodules.add(name)

    def _reaches(self, path: bytes, mode: bytes) -> bool:
        """Whether a path is in the context, or is a submodule that has the context in it."""
        return path.startswith(self.below) or (
            mode == SUBMODULE and self.below.startswith(path + b"/")
        )

    def _name(self, path: bytes) -> str:
        return path[len(self.below) :].decode(errors="surrogateescape")
