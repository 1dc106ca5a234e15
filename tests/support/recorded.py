"""A program that writes down how it is called, and then is the real one."""

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Recorded:
    # For PATH.
    folder: Path

    @classmethod
    def around(cls, name: str, folder: Path, *, real: str | None = None) -> "Recorded":
        """`real`, or the program of that name, recorded in a new folder."""
        program = real or shutil.which(name)
        assert program is not None, f"{name} is not installed"
        folder.mkdir(parents=True)
        wrapper = folder / name
        log = folder / "calls"
        wrapper.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> \'{log}\'\nexec {program} "$@"\n')
        wrapper.chmod(0o755)
        return cls(folder)

    def calls(self) -> list[list[str]]:
        """The arguments of each call."""
        log = self.folder / "calls"
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    def clear(self) -> None:
        (self.folder / "calls").unlink(missing_ok=True)
