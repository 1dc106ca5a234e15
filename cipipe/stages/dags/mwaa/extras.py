"""`requirements.txt` and `plugins.zip`, which MWAA installs: at the top of the bucket, beside the
DAGs.

They are keys of the manifest like all others. The archive is the same bytes for the same files, on
any machine.
"""

from pathlib import Path

from cipipe.errors import Problem, ProblemsError
from cipipe.stages.context import StageContext
from cipipe.stages.dags.files import counts, irregular, not_utf8, relative
from cipipe.stages.dags.settings import Settings
from cipipe.tools.git import lfs
from cipipe.tools.git.client import Entry

REQUIREMENTS, PLUGINS = "requirements.txt", "plugins.zip"
KEYS = frozenset({REQUIREMENTS, PLUGINS})

_EPOCH = (1980, 1, 1, 0, 0, 0)
_EXECUTABLE = b"100755"


def extras(context: StageContext[Settings]) -> dict[str, bytes]:
    """What the settings ask for, by key. Raises ProblemsError where the stage's files do not have
    it.
    """
    settings = context.stage.settings
    found: dict[str, bytes] = {}
    wrong: list[Problem] = []
    if settings.requirements is not None:
        entries = [
            entry
            for entry in context.entries
            if entry.path == settings.requirements.encode() and entry.is_blob
        ]
        if entries:
            blobs, pointers = lfs.contents(context.repository, context.repository.blobs(entries))
            found[REQUIREMENTS] = blobs[entries[0].path]
            wrong += pointers
        else:
            wrong.append(_missing("requirements", settings.requirements, "file"))
    if settings.plugins is not None:
        named = {
            below: entry
            for entry in context.entries
            if (below := _below(entry, settings.plugins)) and counts(below)
        }
        wrong += [irregular(_text(entry)) for entry in named.values() if not entry.is_blob]
        wrong += [
            not_utf8(entry.path) for entry in named.values() if _text(entry).encode() != entry.path
        ]
        if not named:
            wrong.append(_missing("plugins", settings.plugins, "folder"))
        elif not wrong:
            blobs, pointers = lfs.contents(
                context.repository, context.repository.blobs(named.values())
            )
            wrong += pointers
            found[PLUGINS] = archive(
                {name: (blobs[entry.path], entry.mode) for name, entry in named.items()}
            )
    if wrong:
        raise ProblemsError(
            "dags-files-refused", "what MWAA is to install cannot be uploaded", tuple(wrong)
        )
    return found


def archive(files: dict[str, tuple[bytes, bytes]]) -> bytes:
    """A zip of contents and git modes by name. Not compressed: what deflate makes differs from one
    zlib to another.
    """
    import io
    import zipfile

    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as target:
        for name in sorted(files):
            body, mode = files[name]
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3  # Unix, on any machine
            info.external_attr = (0o100755 if mode == _EXECUTABLE else 0o100644) << 16
            target.writestr(info, body)
    return made.getvalue()


def unpacked(plugins: bytes, folder: Path) -> None:
    """The files of an archive of plugins, in a folder, as MWAA unpacks them."""
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(plugins)) as source:
        source.extractall(folder)


def belongs(path: str, requirements: str | None, plugins: str | None) -> bool:
    """Whether a file is one of those, which are not uploaded among the DAGs as well."""
    return path == requirements or (plugins is not None and relative(path, plugins) is not None)


def _below(entry: Entry, folder: str) -> str | None:
    return relative(_text(entry), folder)


def _text(entry: Entry) -> str:
    return entry.path.decode(errors="backslashreplace")


def _missing(key: str, wanted: str, noun: str) -> Problem:
    return Problem(
        "dags-extra-missing",
        f"the stage's files hold no {noun} {wanted}",
        f"{key}",
        "Is it in the commit, and do the stage's `paths` name it?",
    )
