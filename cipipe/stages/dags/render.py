"""What the stage would upload: the commit's files, read from git, with the
outputs put in.

Makes no call to AWS.
"""

from collections.abc import Iterable

import msgspec

from cipipe.errors import Problem, ProblemsError, StageError
from cipipe.model import Mode
from cipipe.stages.context import StageContext
from cipipe.stages.dags.files import count, included, left_out, relative, select
from cipipe.stages.dags.markers.patch import Pending, Replacement, patch_all
from cipipe.stages.dags.mwaa.extras import extras, without_extras
from cipipe.stages.dags.settings import Settings
from cipipe.tools.git import lfs

# Problems that are only warnings where nothing is deployed: the stage that
# makes the outputs has neither run nor been planned.
_UNKNOWN = "dag-output-unknown"
UNKNOWN_YET = frozenset({_UNKNOWN, "dag-output-withheld"})

_SHOWN = 3


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """The stage's files, by repository path, before and after patching."""

    # As they are in the commit.
    sources: dict[str, bytes]
    # As they are uploaded.
    bodies: dict[str, bytes]
    # In verify mode, files with a placeholder for each value that is only
    # known after apply.
    previews: dict[str, bytes] = {}
    # The key of each path in the bucket.
    keys: dict[str, str]
    # What MWAA installs, by key: requirements and plugins.
    extras: dict[str, bytes] = {}
    replacements: tuple[Replacement, ...] = ()
    pending: tuple[Pending, ...] = ()
    warnings: tuple[Problem, ...] = ()
    # Files of the source and the plugins that are not uploaded.
    left_out: tuple[str, ...] = ()

    @property
    def contents(self) -> dict[str, bytes]:
        """Everything that is uploaded, or in verify mode would be, by key."""
        bodies = self.bodies | self.previews
        return {**{self.keys[path]: body for path, body in bodies.items()}, **self.extras}


def render(context: StageContext[Settings], *, tolerate: frozenset[str] = frozenset()) -> Rendered:
    """Read and patch. `tolerate` has ids of problems with outputs that are
    only warnings.

    Raises ProblemsError, and StageError where git lacks contents
    (`dags-blob-missing`).
    """
    settings = context.stage.settings
    sources = _sources(context)
    modules = {path: body for path, body in sources.items() if path.endswith(".py")}
    verify = context.mode is Mode.VERIFY
    if verify:
        tolerate = UNKNOWN_YET - ({_UNKNOWN} if context.outputs_complete else set())
    patched = patch_all(modules, context.outputs, tolerate=tolerate)

    own = without_extras(context.entries, settings)
    skipped = left_out(own, settings.source, included(settings.include))
    if settings.plugins is not None:
        skipped += left_out(context.entries, settings.plugins)
    replacements: list[Replacement] = []
    pending: list[Pending] = []
    warnings: list[Problem] = []
    for file in patched.values():
        replacements += file.replacements
        pending += file.pending
        warnings += file.warnings
    if pending and not verify:
        message = f"{pending[0].output} is not known, and files are to be uploaded"
        raise AssertionError(message)
    return Rendered(
        sources=sources,
        bodies=sources | {path: file.body for path, file in patched.items()},
        keys={path: f"{settings.prefix}{relative(path, settings.source)}" for path in sources},
        extras=extras(context),
        previews={path: file.preview for path, file in patched.items() if file.pending},
        replacements=tuple(replacements),
        pending=tuple(pending),
        warnings=tuple(warnings),
        left_out=tuple(skipped),
    )


def report(context: StageContext[Settings], rendered: Rendered) -> None:
    """Print what came of reading and patching."""
    for note in rendered.warnings:
        message = note.message
        if note.id == _UNKNOWN:
            message += " so far, and a stage that may add it was not planned"
        context.line(f"warning: {note.where}: {message}")
    files = count(len(rendered.contents), "file")
    values = count(len(rendered.replacements), "value")
    context.line(f"{files}, {values} put in")
    for output, places in _by_output(rendered.pending).items():
        more = f" and {len(places) - 1} more" if places[1:] else ""
        first = f"{places[0].name} in {places[0].file}:{places[0].line}"
        context.line(f"{output}: {places[0].type}, known after apply ({first}{more})")

    skipped = rendered.left_out
    if skipped:
        some = ", ".join(skipped[:_SHOWN]) + (", …" if skipped[_SHOWN:] else "")
        number = count(len(skipped), "file")
        context.line(f"{number} left out (tests, caches, hidden files; see `include`): {some}")


def _by_output(pending: Iterable[Pending]) -> dict[str, list[Pending]]:
    found: dict[str, list[Pending]] = {}
    for place in pending:
        found.setdefault(place.output, []).append(place)
    return found


def _sources(context: StageContext[Settings]) -> dict[str, bytes]:
    """The contents, in the commit, of the files that are uploaded, by repository path."""
    settings = context.stage.settings
    own = without_extras(context.entries, settings)
    selected, wrong = select(own, settings.source, included(settings.include))
    if wrong:
        raise _refusal(wrong)

    blobs = context.repository.blobs(selected.values(), keep=True)
    missing = [path for path, entry in selected.items() if entry.path not in blobs]
    if missing:
        more = " and others" if missing[_SHOWN:] else ""
        raise StageError(
            "dags-blob-missing",
            f"git does not have the contents of {', '.join(missing[:_SHOWN])}{more}",
            hint="This is a partial clone: fetch without --filter in this job.",
            where=settings.source,
        )

    # Where Git LFS keeps a file, git has a pointer only, which must never
    # be uploaded.
    bodies, pointers = lfs.contents(context.repository, blobs)
    if pointers:
        raise _refusal(pointers)
    return {path: bodies[entry.path] for path, entry in selected.items()}


def _refusal(problems: list[Problem]) -> ProblemsError:
    message = "the source has files that cannot be uploaded"
    return ProblemsError("dags-files-refused", message, tuple(problems))
