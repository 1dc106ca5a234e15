"""`cipipe dags patch`: patch a folder of DAG files into another, without AWS, git or settings."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from cipipe import bounded
from cipipe.errors import Problem, ProblemsError, RefusedError, UsageError
from cipipe.model import Output
from cipipe.stages.dags.files import counts, irregular, not_utf8
from cipipe.stages.dags.markers.patch import Replacement, patch_all
from cipipe.tools.git import lfs


class PatchedFolder(msgspec.Struct, frozen=True):
    """What was written."""

    # How many files.
    files: int
    replacements: tuple[Replacement, ...]
    warnings: tuple[Problem, ...]


def patch_folder(source: Path, outputs_file: Path, out: Path) -> PatchedFolder:
    """Patch the files of `source` into `out`.

    `outputs_file` has what `terraform output -json` printed. All or
    nothing: `out` appears, or is replaced, once every file is written.
    Nothing is written into `source`, and an `out` with any other files is
    left alone. Raises UsageError, ProblemsError, RefusedError.
    """
    _check_source(source)
    with _file_errors("dags-out-unwritable", "written", out):
        out = out.resolve()
    _check_apart(source, out)

    outputs = read_outputs(outputs_file)
    sources = read_source(source)
    modules = {path: body for path, body in sources.items() if path.endswith(".py")}
    patched = patch_all(modules, outputs, complete=True)

    bodies = sources | {path: file.body for path, file in patched.items()}
    named = {os.path.relpath(path, source): body for path, body in bodies.items()}
    with _file_errors("dags-out-unwritable", "written", out):
        _check_replaceable(out, set(named))
        _write(named, out)
    return PatchedFolder(
        files=len(named),
        replacements=tuple(made for file in patched.values() for made in file.replacements),
        warnings=tuple(note for file in patched.values() for note in file.warnings),
    )


def read_source(source: Path) -> dict[str, bytes]:
    """The files of a folder that would be uploaded, by their paths. Raises
    UsageError, ProblemsError.
    """
    _check_source(source)
    with _file_errors("dags-source-unreadable", "read", source):
        return _read(source)


def _check_source(source: Path) -> None:
    if not source.is_dir():
        raise UsageError("dags-source-missing", f"there is no folder {source}", where=str(source))


def read_outputs(path: Path) -> dict[str, Output]:
    """Read what `terraform output -json` printed. Raises UsageError (`dags-outputs-unreadable`)."""
    try:
        document = bounded.loads(bounded.read(path), parse_constant=_no_number)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except json.JSONDecodeError as error:
        raise _unreadable(path, f"it is not JSON: {error}") from error
    except ValueError as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(document, dict) or not all(map(_is_output, document.values())):
        why = "it is not a map of outputs, each with `value`, `type` and `sensitive`"
        raise _unreadable(path, why)
    return {
        name: Output(
            type=entry.get("type"), value=entry["value"], sensitive=entry.get("sensitive", False)
        )
        for name, entry in document.items()
    }


def _no_number(text: str) -> float:
    # Python reads NaN and Infinity, which are not JSON.
    raise ValueError(f"{text} is no number")


def _is_output(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and "value" in entry
        and isinstance(entry.get("sensitive", False), bool)
    )


def _unreadable(path: Path, why: str) -> UsageError:
    return UsageError(
        "dags-outputs-unreadable",
        f"{path} cannot be used: {why}",
        hint="Make it with `terraform output -json > FILE`, without the name of an output.",
        where=str(path),
    )


@contextlib.contextmanager
def _file_errors(id: str, done: str, path: Path) -> Iterator[None]:
    """Turn errors of the file system into a UsageError about `path`."""
    try:
        yield
    # `Path.resolve` raises RuntimeError for a loop of links.
    except (OSError, RuntimeError) as error:
        file = str(getattr(error, "filename", None) or path)
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            id,
            f"{path} cannot be {done}: {why} ({file})",
            hint="Nothing was written. Choose another folder, or fix this one.",
            where=str(path),
        ) from error


def _check_apart(source: Path, out: Path) -> None:
    here = source.resolve()
    if here == out or here in out.parents or out in here.parents:
        raise RefusedError(
            "dags-out-in-source",
            f"one of {out} and {source} is inside the other:"
            " patched files would replace their own source",
            hint="Choose a folder elsewhere, such as build/dags.",
            where=str(out),
        )


def _check_replaceable(out: Path, names: set[str]) -> None:
    """Refuse a folder with files that this patch does not write again."""
    if not out.exists():
        return
    if not out.is_dir():
        raise RefusedError(
            "dags-out-not-empty", f"{out} is a file", hint="Choose another folder.", where=str(out)
        )
    if Path.cwd().is_relative_to(out):
        why = "it is the current folder, or contains it, and would be replaced"
        raise OSError(None, why, str(out))
    foreign = sorted({os.path.relpath(path, out) for path in _walk(out)} - names)
    if foreign:
        raise RefusedError(
            "dags-out-not-empty",
            f"{out} has files that would not be written again, such as {foreign[0]}",
            hint="Choose an empty folder, or delete this one if it came from an earlier patch.",
            where=str(out),
        )


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder, and links to folders as themselves."""

    # By default, `os.walk` leaves out folders that it cannot read.
    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders.sort()
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        yield from (Path(parent) / name for name in sorted([*files, *links]))


def _read(source: Path) -> dict[str, bytes]:
    sources: dict[str, bytes] = {}
    wrong: list[Problem] = []
    for path in _walk(source):
        if not counts(path.relative_to(source).as_posix()):
            continue
        if path.is_symlink() or not path.is_file():
            wrong.append(irregular(str(path)))
            continue
        if os.fsencode(path) != str(path).encode(errors="replace"):
            wrong.append(not_utf8(os.fsencode(path)))
            continue
        body = path.read_bytes()
        if (kept := lfs.pointer(body)) is not None:
            wrong.append(lfs.absent(str(path), kept))
        sources[str(path)] = body
    if wrong:
        message = "the source has files that cannot be uploaded"
        raise ProblemsError("dags-files-refused", message, tuple(wrong))
    return sources


def _write(bodies: dict[str, bytes], out: Path) -> None:
    """Write a new folder beside `out`, and put it in its place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        fresh = aside / "new"
        fresh.mkdir()
        for name, body in bodies.items():
            target = fresh / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        if not out.exists():
            fresh.rename(out)
            return

        # A folder that is not empty cannot be replaced in one step: if the
        # second one fails, the first one is undone.
        out.rename(aside / "old")
        try:
            fresh.rename(out)
        except BaseException:
            (aside / "old").rename(out)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
