"""The build context of an image: the stage's files in the commit, with those of submodules and
what Git LFS keeps.

A file that counts into the tag and is not on this machine is an error: an image without it would
have that tag for ever.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cipipe import tree_files
from cipipe.errors import Problem, ProblemsError, StageError
from cipipe.patterns import Patterns
from cipipe.stages.context import StageContext
from cipipe.tools.docker import context as docker_context
from cipipe.tools.docker import dockerignore
from cipipe.tools.git import lfs
from cipipe.tools.git.client import SUBMODULE, Entry, Repository

if TYPE_CHECKING:
    from cipipe.stages.image.settings import Settings


@dataclass(frozen=True)
class BuildContext:
    """The files of a context, and the rules for what of them is sent."""

    files: docker_context.Files
    rules: docker_context.Rules
    dockerfile: str
    created: int

    def tar(self) -> bytes:
        """For Docker's classic builder."""
        files = docker_context.sent(self.files, self.rules, dockerfile=self.dockerfile)
        return docker_context.packed(files, created=self.created)

    def write(self, folder: Path) -> None:
        """For BuildKit, whose client reads a folder."""
        docker_context.unpacked(
            self.files, self.rules, folder, dockerfile=self.dockerfile, created=self.created
        )


def build_context(context: "StageContext[Settings]") -> BuildContext:
    """The context of an image stage. Raises ProblemsError, StageError, UsageError."""
    settings = context.stage.settings
    folder = settings.context.strip("/")
    below = f"{folder}/" if folder not in {"", "."} else ""
    patterns = Patterns(context.stage.paths)
    gathered = _Gathered(
        below=below.encode(),
        taken_away=lambda path: patterns.names(path) and not patterns.matches(path),
    )
    gathered.add(context.repository, context.entries)
    if gathered.unfetched or not (gathered.files or gathered.missing):
        raise StageError(
            "image-context-missing",
            "git does not have the contents of all files"
            if gathered.unfetched
            else f"none of the stage's files lies in {folder}",
            hint="What the stage's `paths` do not cover, and what is not committed, does not get into the image. "
            "A partial clone has to be fetched without --filter.",
            where=f"stages.{context.stage.name}.context",
        )

    rules = docker_context.ignore_rules(gathered.files, settings.dockerfile)
    unneeded = dockerignore.ignored(rules.patterns, gathered.missing)
    problems = [
        problem
        for path, problem in sorted(gathered.missing.items())
        # What an exception takes back from a submodule cannot be told without its files.
        if not path
        or path not in unneeded
        or (path in gathered.submodules and rules.have_exceptions)
    ]
    if problems:
        raise ProblemsError(
            "image-context-incomplete",
            "files of the build context are not in this clone",
            tuple(problems),
        )
    return BuildContext(gathered.files, rules, settings.dockerfile, context.commit_time)


@dataclass
class _Gathered:
    """Files, and problems of what is not here, by path from the top of the context, which lies
    `below` a folder.

    The path of a submodule that the whole context lies in is empty.
    """

    below: bytes
    taken_away: Callable[[bytes], bool]
    files: dict[str, docker_context.File] = field(default_factory=dict, init=False)
    missing: dict[str, Problem] = field(default_factory=dict, init=False)
    submodules: set[str] = field(default_factory=set, init=False)
    unfetched: bool = field(default=False, init=False)

    def add(self, repository: Repository, entries: Iterable[Entry], above: bytes = b"") -> None:
        """The files of a checkout that lies at `above` (empty, or ending with a slash)."""
        wanted = [entry for entry in entries if self._reaches(above + entry.path, entry.mode)]
        own = {entry.path: entry for entry in wanted if entry.mode != SUBMODULE}
        bodies = repository.blobs(own.values())
        self.unfetched = self.unfetched or len(bodies) != len(own)

        regular = {path: body for path, body in bodies.items() if own[path].is_blob}
        for path, kept in lfs.pointers(regular):
            body = lfs.content(repository, path, kept)
            if body is None:
                shown = (above + path).decode(errors="backslashreplace")
                self.missing[self._name(above + path)] = lfs.absent(shown, kept)
            else:
                bodies[path] = body
        for path, body in bodies.items():
            self.files[self._name(above + path)] = docker_context.File(own[path].mode, body)
        for entry in wanted:
            if entry.mode == SUBMODULE:
                self._add_submodule(repository, entry, above)

    def _add_submodule(self, repository: Repository, entry: Entry, above: bytes) -> None:
        whole = above + entry.path
        inner = repository.submodule(entry.path)
        tree = inner.objects([f"{entry.oid.decode()}^{{tree}}"])[0] if inner else None
        if inner is None or tree is None:
            self._lacks(
                whole,
                "git-submodule-missing",
                f"is a submodule whose commit {entry.oid.decode()[:12]} is not checked out",
                "Run `git submodule update --init --recursive` before cipipe; on GitHub set `submodules: recursive` "
                "for actions/checkout, on GitLab the variable GIT_SUBMODULE_STRATEGY: recursive.",
            )
        elif changed := inner.dirty():
            self._lacks(
                whole,
                "git-submodule-dirty",
                f"is a submodule with files that differ from its commit, such as "
                f"{changed[0].decode(errors='backslashreplace')}",
                "Commit them there, and then the submodule here; or undo them.",
            )
        else:
            files = tree_files.below(inner, tree.oid, b"")
            self.add(
                inner,
                [e for e in files if not self.taken_away(whole + b"/" + e.path)],
                whole + b"/",
            )

    def _lacks(self, submodule: bytes, error_id: str, message: str, hint: str) -> None:
        name = self._name(submodule)
        self.missing[name] = Problem(
            error_id, message, submodule.decode(errors="backslashreplace"), hint
        )
        self.submodules.add(name)

    def _reaches(self, path: bytes, mode: bytes) -> bool:
        """Whether a file lies in the context; or a submodule, or the context in it."""
        return path.startswith(self.below) or (
            mode == SUBMODULE and self.below.startswith(path + b"/")
        )

    def _name(self, path: bytes) -> str:
        return path[len(self.below) :].decode(errors="surrogateescape")
