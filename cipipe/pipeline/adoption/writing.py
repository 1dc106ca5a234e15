"""The files of an adoption: what would change, and writing each of them at once."""

import difflib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cipipe.errors import RefusedError

IGNORED = ".cipipe/"


def changes(root: Path, wanted: Mapping[str, str]) -> dict[str, str]:
    """The files that are not there yet, or differ."""
    return {name: text for name, text in wanted.items() if current(root / name) != text}


def current(file: Path) -> str | None:
    """The text of a file; None where there is none. Raises RefusedError for a link."""
    if file.is_symlink():
        raise RefusedError(
            "init-link",
            f"{file.name} is a symbolic link; nothing was written",
            hint="Replace it by a file, or remove it.",
            where=file.name,
        )
    try:
        return file.read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return None


def differs(root: Path, path: str, text: str) -> bool:
    """Whether there is such a file of the repository with another text. Links do not count."""
    file = root / path
    return file.resolve() == file and file.is_file() and current(file) != text


def ignoring(text: str | None) -> str:
    """The text of .gitignore with cipipe's own folder in it."""
    lines = (text or "").splitlines()
    if any(line.strip().strip("/") == IGNORED.strip("/") for line in lines):
        return text or ""
    start = text or ""
    if start and not start.endswith("\n"):
        start += "\n"
    return start + IGNORED + "\n"


def diff(root: Path, name: str, text: str) -> str:
    """What writing the file would change, as a unified diff."""
    old = current(root / name)
    source = f"a/{name}" if old is not None else "/dev/null"
    lines = difflib.unified_diff(
        (old or "").splitlines(), text.splitlines(), source, f"b/{name}", lineterm=""
    )
    return "".join(f"{line}\n" for line in lines)


def write(file: Path, text: str) -> None:
    """Replace a file at once: whoever reads it sees the old or the new text, never a part."""
    file.parent.mkdir(parents=True, exist_ok=True)
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as new:
            new.write(text.encode(errors="surrogateescape"))
        Path(name).chmod(mode)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
