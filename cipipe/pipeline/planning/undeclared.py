"""What a stage is made from although its `paths` leave it out: a change
there makes nothing due.

Only due stages are checked, and little is read: settings, Terraform files
and Dockerfiles cost one look-up each. Links are looked for among what
changed; everywhere only where a stage was never deployed or the caller
wants it.
"""

import contextlib
import posixpath
from collections.abc import Iterator

from cipipe import tree_files
from cipipe.errors import UsageError
from cipipe.model import Plan, Reason, StagePlan, Status
from cipipe.patterns import Patterns
from cipipe.pipeline.planning.snapshot import Snapshot
from cipipe.pipeline.project import Project
from cipipe.stages import KINDS
from cipipe.stages.base import Input
from cipipe.terminal import visible
from cipipe.tools.git.client import Entry, Repository

# How many warnings of a stage, or names of files, are shown.
_SHOWN = 10

# With these reasons there is nothing that the stage could have changed
# against.
_ALL_NEW = {Reason.NEVER_DEPLOYED, Reason.NO_BASELINE}


def warnings(
    project: Project, plan: Plan, snapshot: Snapshot, *, everywhere: bool
) -> tuple[str, ...]:
    """A line for each input that a due stage does not declare.

    `everywhere` looks for links in all folders, and adds the files that no
    stage covers.
    """
    due = [stage for stage in plan.stages if stage.status is Status.DUE]
    # One round trip to git for each tree would take longer than everything
    # else, with many stages.
    with contextlib.suppress(UsageError):
        read = [
            snapshot.patterns[stage.name]
            for stage in due
            if _reads_all(stage, snapshot.patterns[stage.name], everywhere=everywhere)
        ]
        tree_files.read_ahead(project.repository, snapshot.tree, read)

    found: list[str] = []
    for stage in due:
        # A clone without all trees can be planned: a warning is no reason
        # to fail.
        with contextlib.suppress(UsageError):
            texts = list(
                dict.fromkeys(_of_stage(project, stage, snapshot, plan, everywhere=everywhere))
            )
            more = len(texts) - _SHOWN
            if more > 0:
                texts = [*texts[:_SHOWN], f"… and {more} more like these"]
            found += [f"stage {stage.name}: {text}" for text in texts]

    if everywhere:
        found += _uncovered(project, snapshot)
    return tuple(found)


def _of_stage(
    project: Project, planned: StagePlan, snapshot: Snapshot, plan: Plan, *, everywhere: bool
) -> Iterator[str]:
    stage = snapshot.candidates[planned.name].stage
    expanded = project.config.for_run(stage, plan.environment)
    coverage = _Coverage(project.repository, snapshot.tree, snapshot.patterns[planned.name])
    for wanted in KINDS[stage.kind].inputs(expanded, coverage.repository, coverage.tree):
        yield from coverage.complaint(wanted)

    read = _reads_all(planned, coverage.patterns, everywhere=everywhere)
    links = tree_files.links(
        coverage.repository,
        coverage.tree,
        coverage.patterns,
        None if read else planned.paths,
    )
    for path, body in sorted(coverage.repository.blobs(links).items()):
        yield from coverage.complaint(_linked(path, body))


def _reads_all(stage: StagePlan, patterns: Patterns, *, everywhere: bool) -> bool:
    """Whether all of a stage's folders are read for links.

    A folder that counts as a whole was not read, and is not read for its
    links alone.
    """
    return everywhere or stage.reason in _ALL_NEW or not patterns.folders


def _linked(path: bytes, target: bytes) -> Input:
    link = path.decode(errors="surrogateescape")
    leads_to = target.decode(errors="surrogateescape")
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(link), leads_to))
    return Input(path="" if joined == "." else joined, used_by=f"the link {link}")


class _Coverage:
    """One stage's paths, compared with what the stage is made from."""

    def __init__(self, repository: Repository, tree: str, patterns: Patterns) -> None:
        self.repository = repository
        self.tree = tree
        self.patterns = patterns

    def complaint(self, wanted: Input) -> Iterator[str]:
        """What is wrong with an input, if anything. One that is not in the commit is not read."""
        used_by = _shown(wanted.used_by)
        if wanted.path.startswith("/") or wanted.path.split("/")[0] == "..":
            yield f"{used_by} takes {_shown(wanted.path)}, which is not in the repository"
            return
        left_out = self._left_out(wanted)
        if not left_out:
            return
        what = _shown("/".join(filter(None, (wanted.path, wanted.wildcard))))
        what = what or "the whole repository"
        if left_out != [wanted.path.encode(errors="surrogateescape")]:
            first = visible(left_out[0].decode(errors="backslashreplace"))
            number = f"{len(left_out)} file{'s' if len(left_out) != 1 else ''}"
            what = f"{what}: {number} there, such as {first}"
        yield (
            f"{used_by} takes {what}, which its paths leave out; a change there makes nothing due"
        )

    def _left_out(self, wanted: Input) -> list[bytes]:
        """The files of an input that the stage's paths leave out."""
        path = wanted.path.encode(errors="surrogateescape")
        found = self.repository.at(self.tree, wanted.path)
        if found is None:
            return []
        if found.type != "tree":
            covered = bool(wanted.wildcard) or self.patterns.matches(path)
            return [] if covered else [path]
        if not wanted.endings and self._covers(path, some=wanted.some):
            return []

        files = self._files(wanted, found.oid)
        endings = tuple(ending.encode() for ending in wanted.endings)
        if endings:
            files = [entry for entry in files if entry.path.endswith(endings)]
        if wanted.exclude:
            files = _without(files, wanted.exclude, len(path) + 1 if path else 0)
        covers = self.patterns.matches if endings else self.patterns.names
        left_out = [
            entry.path
            for entry in files
            if not covers(entry.path) and not tree_files.matches(self.patterns, entry)
        ]
        if wanted.some and len(left_out) < len(files):
            return []
        return left_out

    def _files(self, wanted: Input, tree: str) -> list[Entry]:
        if wanted.wildcard:
            return self._matching(wanted)
        if wanted.flat:
            listing = self.repository.listing(self.tree, wanted.path)
            return [entry for entry in listing if not entry.is_tree]
        path = wanted.path.encode(errors="surrogateescape")
        return tree_files.below(self.repository, tree, path)

    def _matching(self, wanted: Input) -> list[Entry]:
        """The files that a wildcard matches. Only the folders on its way are read."""
        from cipipe.tools.docker import dockerignore

        segments = wanted.wildcard.split("/")
        folders = [wanted.path]
        entries: list[Entry] = []
        for number, segment in enumerate(segments):
            if "**" in segment:
                # From here on folders of any depth can match.
                rest = "/".join(segments[number:])
                anywhere = [self._anywhere(folder, rest, flat=wanted.flat) for folder in folders]
                return [entry for found in anywhere for entry in found]
            listings = [self.repository.listing(self.tree, folder) for folder in folders]
            entries = [entry for listing in listings for entry in listing]
            matched = dockerignore.matching(segment, (_name(entry) for entry in entries))
            entries = [entry for entry in entries if _name(entry) in matched]
            trees = [entry for entry in entries if entry.is_tree]
            folders = [entry.path.decode(errors="surrogateescape") for entry in trees]

        files = [entry for entry in entries if not entry.is_tree]
        if wanted.flat:
            return files
        for entry in entries:
            if entry.is_tree:
                files += tree_files.below(self.repository, entry.oid.decode(), entry.path)
        return files

    def _anywhere(self, folder: str, pattern: str, *, flat: bool) -> list[Entry]:
        """The files below a folder that match a pattern with `**`.

        Without `flat`, also those in a folder that matches.
        """
        from cipipe.tools.docker import dockerignore

        found = self.repository.at(self.tree, folder)
        if found is None:
            return []
        above = folder.encode(errors="surrogateescape")
        entries = tree_files.below(self.repository, found.oid, above)
        start = len(above) + 1 if above else 0
        names = {entry.path[start:].decode(errors="surrogateescape"): entry for entry in entries}
        matched = dockerignore.matching(pattern, names, below=not flat)
        return [entry for name, entry in names.items() if name in matched]

    def _covers(self, folder: bytes, *, some: bool) -> bool:
        """Whether the patterns name a whole folder, or with `some` anything in it."""
        below = folder + b"/" if folder else b""
        # No path has a NUL in it: only a pattern that takes everything
        # matches these two.
        if self.patterns.names(below + b"\0") and self.patterns.names(below + b"\0\0/\0\0/\0\0"):
            return True
        if not some:
            return False
        prefixes = (*self.patterns.folders, *self.patterns.prefixes)
        return any(prefix.startswith(below) for prefix in prefixes if prefix)


def _name(entry: Entry) -> str:
    return posixpath.basename(entry.path.decode(errors="surrogateescape"))


def _without(files: list[Entry], exclude: tuple[str, ...], start: int) -> list[Entry]:
    """The files that no pattern of `.dockerignore` matches, by their path
    from `start` on.

    A pattern that cannot be read matches none: Docker reports it.
    """
    from cipipe.tools.docker import dockerignore

    with contextlib.suppress(UsageError):
        patterns = dockerignore.patterns("\n".join(exclude).encode(errors="surrogateescape"))
        names = {e.path: e.path[start:].decode(errors="surrogateescape") for e in files}
        ignored = dockerignore.ignored(patterns, names.values())
        return [entry for entry in files if names[entry.path] not in ignored]
    return files


def _uncovered(project: Project, snapshot: Snapshot) -> Iterator[str]:
    own = project.config_path.encode()
    files = tree_files.below(project.repository, snapshot.tree, b"")
    left = [path for path in tree_files.uncovered(files, snapshot.patterns) if path != own]
    if not left:
        return
    names = ", ".join(visible(path.decode(errors="backslashreplace")) for path in left[:_SHOWN])
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    verb = "file is" if len(left) == 1 else "files are"
    yield f"{len(left)} {verb} covered by no stage: {names}{more}"


def _shown(text: str) -> str:
    return visible(text.encode(errors="surrogateescape").decode(errors="backslashreplace"))
