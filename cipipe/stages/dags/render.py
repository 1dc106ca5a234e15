"""What the stage would upload: the commit's files, read from git, with the outputs put in. No call
to AWS.
"""

import os

import msgspec

from cipipe.errors import Problem, ProblemsError, StageError
from cipipe.model import Mode
from cipipe.stages.context import StageContext
from cipipe.stages.dags.files import included, left_out, relative, select
from cipipe.stages.dags.markers.patch import Replacement, patch_all
from cipipe.stages.dags.mwaa.extras import belongs, extras
from cipipe.stages.dags.settings import Settings
from cipipe.tools.git import lfs
from cipipe.tools.git.client import Entry

UNKNOWN_YET = frozenset({"dag-output-unknown", "dag-output-withheld"})
"""What is no error where nothing is deployed: the stage that makes the outputs has not run."""


class Rendered(msgspec.Struct, frozen=True):
    """Files by repository path: as they are (`sources`), as they are uploaded (`bodies`), and under
    which key.

    `extras` are what MWAA installs, by key. `left_out` are files of the source and the plugins that
    are not uploaded.
    """

    sources: dict[str, bytes]
    bodies: dict[str, bytes]
    keys: dict[str, str]
    extras: dict[str, bytes]
    replacements: tuple[Replacement, ...]
    warnings: tuple[Problem, ...]
    left_out: tuple[str, ...] = ()

    @property
    def contents(self) -> dict[str, bytes]:
        """All that is uploaded, by key."""
        return {**{self.keys[path]: body for path, body in self.bodies.items()}, **self.extras}


def render(context: StageContext[Settings], *, tolerate: frozenset[str] = frozenset()) -> Rendered:
    """Read and patch. Raises ProblemsError, and StageError where git lacks contents
    (`dags-blob-missing`).
    """
    sources = _sources(context)
    modules = {path: body for path, body in sources.items() if path.endswith(".py")}
    patched = patch_all(
        modules, context.outputs, tolerate=UNKNOWN_YET if context.mode is Mode.VERIFY else tolerate
    )
    others = extras(context)
    prefix, source = context.stage.settings.prefix, context.stage.settings.source
    return Rendered(
        sources,
        sources | {path: file.body for path, file in patched.items()},
        {path: f"{prefix}{relative(path, source)}" for path in sources},
        others,
        tuple(replacement for file in patched.values() for replacement in file.replacements),
        tuple(note for file in patched.values() for note in file.warnings),
        (
            *left_out(_own(context), source, included(context.stage.settings.include)),
            *_left_out_of_plugins(context),
        ),
    )


def _left_out_of_plugins(context: StageContext[Settings]) -> list[str]:
    plugins = context.stage.settings.plugins
    return [] if plugins is None else left_out(context.entries, plugins)


def _own(context: StageContext[Settings]) -> list[Entry]:
    """The stage's files without what MWAA installs."""
    settings = context.stage.settings
    return [
        e
        for e in context.entries
        if not belongs(os.fsdecode(e.path), settings.requirements, settings.plugins)
    ]


def _sources(context: StageContext[Settings]) -> dict[str, bytes]:
    """The contents, in the commit, of the files that are uploaded, by repository path."""
    settings = context.stage.settings
    selected, wrong = select(_own(context), settings.source, included(settings.include))
    if wrong:
        raise ProblemsError(
            "dags-files-refused", "the source holds files that cannot be uploaded", tuple(wrong)
        )
    blobs = context.repository.blobs(selected.values(), keep=True)
    missing = [path for path, entry in selected.items() if entry.path not in blobs]
    if missing:
        raise StageError(
            "dags-blob-missing",
            f"git does not have the contents of {', '.join(missing[:3])}"
            + (" and others" if missing[3:] else ""),
            hint="This is a partial clone: fetch without --filter in this job.",
            where=settings.source,
        )
    bodies, pointers = lfs.contents(context.repository, blobs)
    if pointers:
        raise ProblemsError(
            "dags-files-refused", "the source holds files that cannot be uploaded", tuple(pointers)
        )
    return {path: bodies[entry.path] for path, entry in selected.items()}
