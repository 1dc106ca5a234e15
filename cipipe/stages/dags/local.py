"""`cipipe dags patch`: a folder of DAG files patched into another folder, without AWS, git or
configuration.
"""

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
    """What was written: how many files, every replacement, and what to look at again."""

    files: int
    replacements: tuple[Replacement, ...]
    warnings: tuple[Problem, ...]


def patch_folder(source: Path, outputs_file: Path, out: Path) -> PatchedFolder:
    """Patch the files of `source` with what `terraform output -json` wrote to `outputs_file`, into
    `out`.

    All of it or nothing: `out` appears, or is replaced, when every file is written. Never writes
    into `source`; an `out` that holds anything else than such files is left alone. Raises
    UsageError, ProblemsError, RefusedError.
    """
    if not source.is_dir():
        raise UsageError("dags-source-missing", f"there is no folder {source}", where=str(source))
    with _told("dags-out-unwritable", "written", out):
        out = out.resolve()
    _check_apart(source, out)
    outputs = read_outputs(outputs_file)
    with _told("dags-source-unreadable", "read", source):
        sources = _read(source)
    patched = patch_all(
        {path: body for path, body in sources.items() if path.endswith(".py")},
        outputs,
        complete=True,
    )
    names = {os.path.relpath(path, source): path for path in sources}
    bodies = sources | {path: file.body for path, file in patched.items()}
    with _told("dags-out-unwritable", "written", out):
        _check_replaceable(out, set(names))
        _write({name: bodies[path] for name, path in names.items()}, out)
    return PatchedFolder(
        len(names),
        tuple(replacement for file in patched.values() for replacement in file.replacements),
        tuple(note for file in patched.values() for note in file.warnings),
    )


def read_outputs(path: Path) -> dict[str, Output]:
    """Read the file that `terraform output -json` wrote. Raises UsageError
    (`dags-outputs-unreadable`).
    """
    try:
        document = bounded.loads(bounded.read(path), parse_constant=_no_number)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except json.JSONDecodeError as error:
        raise _unreadable(path, f"it is not JSON: {error}") from error
    except ValueError as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(document, dict) or not all(map(_is_output, document.values())):
        raise _unreadable(
            path, "it is not a map of outputs, each with `value`, `type` and `sensitive`"
        )
    return {
        name: Output(
            type=entry.get("type"), value=entry["value"], sensitive=entry.get("sensitive", False)
        )
        for name, entry in document.items()
    }


def _no_number(text: str) -> float:
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
def _told(id: str, done: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (
        OSError,
        RuntimeError,
    ) as error:  # RuntimeError: what a loop of links is to Path.resolve
        file = str(getattr(error, "filename", None) or path)
        why = getattr(error, "strerror", None) or str(error)
        hint = (
            "Nothing was written. Choose another folder, or see to what is in the way of this one."
        )
        raise UsageError(
            id, f"{path} cannot be {done}: {why} ({file})", hint=hint, where=str(path)
        ) from error


def _check_apart(source: Path, out: Path) -> None:
    here = source.resolve()
    if here == out or here in out.parents or out in here.parents:
        raise RefusedError(
            "dags-out-in-source",
            f"{out} and {source} lie in each other: patched files would replace their own source",
            hint="Choose a folder elsewhere, such as build/dags.",
            where=str(out),
        )


def _check_replaceable(out: Path, names: set[str]) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise RefusedError(
            "dags-out-not-empty", f"{out} is a file", hint="Choose another folder.", where=str(out)
        )
    if Path.cwd().is_relative_to(out):
        raise OSError(
            None, "it is the current folder, or holds it, and would be replaced", str(out)
        )
    foreign = sorted({os.path.relpath(path, out) for path in _walk(out)} - names)
    if foreign:
        raise RefusedError(
            "dags-out-not-empty",
            f"{out} holds files that would not be written again, such as {foreign[0]}",
            hint="Choose an empty folder, or delete this one if it came from an earlier patch.",
            where=str(out),
        )


def _walk(folder: Path) -> Iterator[Path]:
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
        raise ProblemsError(
            "dags-files-refused", "the source holds files that cannot be uploaded", tuple(wrong)
        )
    return sources


def _write(bodies: dict[str, bytes], out: Path) -> None:
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
        out.rename(aside / "old")
        try:
            fresh.rename(out)
        except BaseException:
            (aside / "old").rename(out)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
