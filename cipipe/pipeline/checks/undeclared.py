"""What a stage is made from although its `paths` leave it out: a change there would make nothing
due.

Only for stages that are due, and read sparingly: settings, Terraform files and Dockerfiles cost a
look-up each. Links are looked for among what changed, and everywhere only where a stage was never
deployed or the caller asks for it.
"""

import contextlib
import posixpath
from collections.abc import Iterator, Mapping

import msgspec

from cipipe import tree_files
from cipipe.errors import UsageError
from cipipe.model import Plan, Reason, StagePlan, Status
from cipipe.patterns import Patterns
from cipipe.pipeline.project import Project
from cipipe.planner import Candidate
from cipipe.stages import KINDS
from cipipe.stages.base import Input
from cipipe.stages.settings import replaced
from cipipe.terminal import visible
from cipipe.tools.git.client import Entry, Repository

_SHOWN = 10

_ALL_NEW = {Reason.NEVER_DEPLOYED, Reason.NO_BASELINE}


def warnings(
    project: Project,
    plan: Plan,
    tree: str,
    candidates: Mapping[str, Candidate],
    patterns: Mapping[str, Patterns],
    *,
    everywhere: bool,
) -> tuple[str, ...]:
    """A line for each input that a due stage does not declare; `everywhere` adds files that no
    stage covers.
    """
    due = [stage for stage in plan.stages if stage.status is Status.DUE]
    # A round trip to git for each tree of a thousand stages would take longer than all the rest.
    with contextlib.suppress(UsageError):
        all_read = [
            patterns[stage.name]
            for stage in due
            if _reads_all(stage, patterns[stage.name], everywhere=everywhere)
        ]
        tree_files.read_ahead(project.repository, tree, all_read)

    found: list[str] = []
    for stage in plan.stages:
        if stage.status is Status.DUE:
            look = _Look(project.repository, tree, patterns[stage.name])
            # A clone without all trees can be planned, and is no reason to fail for a warning.
            with contextlib.suppress(UsageError):
                told = list(
                    dict.fromkeys(
                        _of_stage(project, plan, stage, candidates, look, everywhere=everywhere)
                    )
                )
                more = [f"… and {len(told) - _SHOWN} more like these"] if len(told) > _SHOWN else []
                found += [f"stage {stage.name}: {text}" for text in [*told[:_SHOWN], *more]]
    return (*found, *(_uncovered(project, tree, patterns) if everywhere else ()))


def _of_stage(
    project: Project,
    plan: Plan,
    planned: StagePlan,
    candidates: Mapping[str, Candidate],
    look: "_Look",
    *,
    everywhere: bool,
) -> Iterator[str]:
    stage = candidates[planned.name].stage
    settings = replaced(
        stage.settings,
        lambda v: project.config.expanded(v, plan.environment) if isinstance(v, str) else v,
    )
    known = msgspec.structs.replace(stage, settings=settings)
    for wanted in KINDS[stage.kind].inputs(known, look.repository, look.tree):
        yield from look.complaint(wanted)
    all_read = _reads_all(planned, look.patterns, everywhere=everywhere)
    links = tree_files.links(
        look.repository, look.tree, look.patterns, None if all_read else planned.paths
    )
    for path, body in sorted(look.repository.blobs(links).items()):
        yield from look.complaint(_linked(path, body))


def _reads_all(stage: StagePlan, patterns: Patterns, *, everywhere: bool) -> bool:
    """Whether all of a stage's folders are read for links. One that counts whole was not read, and
    is not read for its links alone.
    """
    return everywhere or stage.reason in _ALL_NEW or not patterns.folders


def _linked(path: bytes, target: bytes) -> Input:
    link, leads = (name.decode(errors="surrogateescape") for name in (path, target))
    whole = posixpath.normpath(posixpath.join(posixpath.dirname(link), leads))
    return Input(path="" if whole == "." else whole, used_by=f"the link {link}")


class _Look:
    """One stage's paths, held against what it takes."""

    def __init__(self, repository: Repository, tree: str, patterns: Patterns) -> None:
        self.repository = repository
        self.tree = tree
        self.patterns = patterns

    def complaint(self, wanted: Input) -> Iterator[str]:
        """What is wrong with an input, if anything; one that is not in the commit is not looked
        into.
        """
        if wanted.path.startswith("/") or wanted.path.split("/")[0] == "..":
            yield f"{_shown(wanted.used_by)} takes {_shown(wanted.path)}, which is not in the repository"
            return
        left_out = self._left_out(wanted)
        if left_out is None or not left_out:
            return
        what = (
            _shown("/".join(filter(None, (wanted.path, wanted.wildcard)))) or "the whole repository"
        )
        if left_out != [wanted.path.encode(errors="surrogateescape")]:
            first = visible(left_out[0].decode(errors="backslashreplace"))
            number = f"{len(left_out)} file{'s' if len(left_out) != 1 else ''}"
            what = f"{what}: {number} there, such as {first}"
        yield f"{_shown(wanted.used_by)} takes {what}, which its paths leave out; a change there makes nothing due"

    def _left_out(self, wanted: Input) -> list[bytes] | None:
        path = wanted.path.encode(errors="surrogateescape")
        found = self.repository.at(self.tree, wanted.path)
        if found is None:
            return None
        if found.type != "tree":
            return [] if wanted.wildcard or self.patterns.matches(path) else [path]
        if not wanted.endings and self._covers(path, some=wanted.some):
            return []
        if wanted.wildcard:
            files = self._wild(wanted)
        elif wanted.flat:
            files = [e for e in self.repository.listing(self.tree, wanted.path) if not e.is_tree]
        else:
            files = tree_files.below(self.repository, found.oid, path)
        endings = tuple(ending.encode() for ending in wanted.endings)
        covers = self.patterns.matches if endings else self.patterns.names
        files = [e for e in files if not endings or e.path.endswith(endings)]
        if wanted.exclude:
            files = _without(files, wanted.exclude, len(path) + 1 if path else 0)
        left_out = [
            e.path for e in files if not covers(e.path) and not tree_files.matches(self.patterns, e)
        ]
        return [] if wanted.some and len(left_out) < len(files) else left_out

    def _wild(self, wanted: Input) -> list[Entry]:
        """The files that a pattern matches, segment by segment, so that only folders that it
        reaches are read.
        """
        from cipipe.tools.docker import dockerignore

        segments = wanted.wildcard.split("/")
        folders = [wanted.path]
        for number, segment in enumerate(segments):
            if "**" in segment:
                rest = "/".join(segments[number:])
                return [
                    entry
                    for folder in folders
                    for entry in self._anywhere(folder, rest, flat=wanted.flat)
                ]
            entries = [
                entry for folder in folders for entry in self.repository.listing(self.tree, folder)
            ]
            matched = dockerignore.matching(segment, (_name(entry) for entry in entries))
            entries = [entry for entry in entries if _name(entry) in matched]
            folders = [
                entry.path.decode(errors="surrogateescape") for entry in entries if entry.is_tree
            ]
        files = [entry for entry in entries if not entry.is_tree]
        if wanted.flat:
            return files
        return files + [e for entry in entries if entry.is_tree for e in self._below(entry)]

    def _anywhere(self, folder: str, pattern: str, *, flat: bool) -> list[Entry]:
        """The files below a folder that match a pattern with `**`; or that lie, if not `flat`, in a
        folder that does.
        """
        from cipipe.tools.docker import dockerignore

        found = self.repository.at(self.tree, folder)
        above = folder.encode(errors="surrogateescape")
        entries = tree_files.below(self.repository, found.oid, above) if found else []
        start = len(above) + 1 if above else 0
        names = {entry.path[start:].decode(errors="surrogateescape"): entry for entry in entries}
        matched = dockerignore.matching(pattern, names, below=not flat)
        return [entry for name, entry in names.items() if name in matched]

    def _below(self, folder: Entry) -> list[Entry]:
        return tree_files.below(self.repository, folder.oid.decode(), folder.path)

    def _covers(self, folder: bytes, *, some: bool) -> bool:
        """Whether the patterns name a folder as a whole, or anything in it: told without reading
        it.
        """
        below = folder + b"/" if folder else b""
        if self.patterns.names(below + b"\0") and self.patterns.names(below + b"\0\0/\0\0/\0\0"):
            return True
        return some and any(
            p.startswith(below) for p in (*self.patterns.folders, *self.patterns.prefixes) if p
        )


def _name(entry: Entry) -> str:
    return posixpath.basename(entry.path.decode(errors="surrogateescape"))


def _without(files: list[Entry], exclude: tuple[str, ...], start: int) -> list[Entry]:
    """The files whose path below the source, or name, no pattern matches; a pattern that cannot be
    read matches none.
    """
    from cipipe.tools.docker import dockerignore

    with contextlib.suppress(UsageError):
        patterns = dockerignore.patterns("\n".join(exclude).encode(errors="surrogateescape"))
        names = {e.path: e.path[start:].decode(errors="surrogateescape") for e in files}
        left_out = dockerignore.ignored(patterns, names.values())
        return [e for e in files if names[e.path] not in left_out]
    return files


def _uncovered(project: Project, tree: str, patterns: Mapping[str, Patterns]) -> Iterator[str]:
    own = project.config_path.encode()
    files = tree_files.below(project.repository, tree, b"")
    left = [path for path in tree_files.uncovered(files, patterns) if path != own]
    if left:
        names = ", ".join(visible(path.decode(errors="backslashreplace")) for path in left[:_SHOWN])
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        verb = "file is" if len(left) == 1 else "files are"
        yield f"{len(left)} {verb} covered by no stage: {names}{more}"


def _shown(text: str) -> str:
    return visible(text.encode(errors="surrogateescape").decode(errors="backslashreplace"))
