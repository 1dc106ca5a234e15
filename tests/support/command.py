"""`cipipe` as a process in a folder, with no variable of AWS or of a pipeline."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cipipe.tools import process
from support.environment import shell_environment
from support.git import ENV


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.out))

    @property
    def error(self) -> str:
        """The error's id; the document and standard error have to agree on it."""
        found = str(self.document["error"]["id"])
        assert f"docs/errors.md#{found}, exit status {self.status}" in self.err
        return found


@dataclass(frozen=True)
class Cli:
    """`cipipe` in a clone, with no variable of AWS or of a pipeline."""

    root: Path

    def __call__(self, *arguments: str, code: str | None = None, **env: str) -> Done:
        clean = shell_environment(ENV) | {"HOME": str(self.root.parent)}
        argv = [sys.executable, *(["-c", code] if code else ["-m", "cipipe"]), *arguments]
        done = process.run(argv, env=clean | env, cwd=self.root, check=False)
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())
