"""`requirements.txt` and `plugins.zip`, which MWAA installs: at the top of
the bucket.

They are keys of the manifest like all others. The archive has the same
bytes for the same files, on any machine.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cipipe.errors import Problem, ProblemsError
from cipipe.stages.context import StageContext
from cipipe.stages.dags.files import counts, irregular, not_utf8, relative
from cipipe.stages.dags.settings import Settings
from cipipe.tools.git import lfs
from cipipe.tools.git.client import Entry

REQUIREMENTS = "requirements.txt"
PLUGINS = "plugins.zip"
KEYS = frozenset({REQUIREMENTS, PLUGINS})

# The earliest time that a zip can express, for all of its files.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_EXECUTABLE = b"100755"


def extras(context: StageContext[Settings]) -> dict[str, bytes]:
    """What the settings name, by key. Raises ProblemsError where the stage's files lack it."""
    settings = context.stage.settings
    found: dict[str, bytes] = {}
    wrong: list[Problem] = []
    if settings.requirements is not None:
        body, problems = _requirements(context, settings.requirements)
        found[REQUIREMENTS] = body
        wrong += problems
    if settings.plugins is not None:
        body, problems = _plugins(context, settings.plugins)
        found[PLUGINS] = body
        wrong += problems
    if wrong:
        raise ProblemsError(
            "dags-files-refused", "what MWAA is to install cannot be uploaded", tuple(wrong)
        )
    return found


def _requirements(context: StageContext[Settings], wanted: str) -> tuple[bytes, list[Problem]]:
    path = wanted.encode()
    entries = [entry for entry in context.entries if entry.path == path and entry.is_blob]
    if not entries:
        return b"", [_missing("requirements", wanted, "file")]
    blobs, pointers = lfs.contents(context.repository, context.repository.blobs(entries))
    return blobs[path], list(pointers)


def _plugins(context: StageContext[Settings], folder: str) -> tuple[bytes, list[Problem]]:
    named: dict[str, Entry] = {}
    for entry in context.entries:
        below = relative(_text(entry), folder)
        # The same files are left out as among the DAGs: caches, tests,
        # hidden files.
        if below and counts(below):
            named[below] = entry
    if not named:
        return b"", [_missing("plugins", folder, "folder")]

    entries = named.values()
    wrong = [irregular(_text(entry)) for entry in entries if not entry.is_blob]
    wrong += [not_utf8(entry.path) for entry in entries if _text(entry).encode() != entry.path]
    if wrong:
        return b"", wrong
    blobs, pointers = lfs.contents(context.repository, context.repository.blobs(entries))
    files = {name: (blobs[entry.path], entry.mode) for name, entry in named.items()}
    return archive(files), list(pointers)


def archive(files: dict[str, tuple[bytes, bytes]]) -> bytes:
    """A zip of contents and git modes by name.

    Not compressed: what deflate produces differs from one zlib to another.
    """
    import io
    import zipfile

    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as target:
        for name in sorted(files):
            body, mode = files[name]
            info = zipfile.ZipInfo(name, _EPOCH)
            # 3 is Unix. By default it is the system that writes the
            # archive.
            info.create_system = 3
            info.external_attr = (0o100755 if mode == _EXECUTABLE else 0o100644) << 16
            target.writestr(info, body)
    return made.getvalue()


def unpack(plugins: bytes, folder: Path) -> None:
    """Unpack an archive of plugins into a folder, as MWAA does."""
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(plugins)) as source:
        source.extractall(folder)


def installed(
    environment: str, entries: Mapping[str, Any], wanted: Mapping[str, str]
) -> dict[str, Any] | None:
    """What the record says once the environment runs what the bucket has.

    `entries` are those of the manifest. None where there is no environment,
    or nothing to install whose version is known.
    """
    versions = {
        key: entries[key]["version"]
        for key in sorted(KEYS & wanted.keys())
        if entries[key]["version"]
    }
    if not environment or not versions:
        return None
    return {"environment": environment, "versions": versions}


def without_extras(entries: Iterable[Entry], settings: Settings) -> list[Entry]:
    """The entries without requirements and plugins, which are not uploaded among the DAGs too."""
    found = []
    for entry in entries:
        path = os.fsdecode(entry.path)
        is_plugin = settings.plugins is not None and relative(path, settings.plugins) is not None
        if path != settings.requirements and not is_plugin:
            found.append(entry)
    return found


def _text(entry: Entry) -> str:
    return entry.path.decode(errors="backslashreplace")


def _missing(key: str, wanted: str, noun: str) -> Problem:
    return Problem(
        "dags-extra-missing",
        f"the stage's files have no {noun} {wanted}",
        key,
        hint="Is it in the commit, and do the stage's `paths` name it?",
    )
