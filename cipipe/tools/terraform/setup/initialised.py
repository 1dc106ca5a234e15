"""Whether the last `init` of a root still counts, so that it need not run again.

Beside what `init` made is a digest of all that it depends on: Terraform
itself, the backend's settings, the files of the root and of its modules,
the lock file; and of the backend that it set up. Providers are compared by
size and time.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from cipipe import bounded
from cipipe.tools.terraform.backend import in_force
from cipipe.tools.terraform.commands import Commands

_MARKER = "initialised.json"
_VERSION = b"1"
_FILES = (".tf", ".tf.json", ".tofu", ".tofu.json")
# OpenTofu's backend and modules may depend on variables.
_VARIABLE_FILES = (".tfvars", ".tfvars.json")


class _Marker(msgspec.Struct, frozen=True):
    digest: str
    # Size and time of each file of a provider, by path.
    providers: dict[str, tuple[int, int]]


class Initialisation:
    """The last `init` of a root, seen from a command with these settings."""

    def __init__(self, commands: Commands, settings: Mapping[str, Any]) -> None:
        self._commands = commands
        self._settings = settings
        self._marker = commands.data_dir / _MARKER

    def is_current(self) -> bool:
        """Whether it made all that a command needs."""
        commands = self._commands
        try:
            marker: _Marker = bounded.decode(self._marker.read_bytes(), type=_Marker)
        except (OSError, msgspec.MsgspecError):
            return False
        # It is there whatever the digest says, and cheaper to look at.
        found = in_force(commands.data_dir)
        if found is None or found["type"] != commands.backend.type:
            return False
        return marker.digest == self._digest() and marker.providers == self._providers()

    def note(self) -> None:
        """Remember it, now that it has succeeded."""
        digest = self._digest()
        if digest is not None:
            marker = _Marker(digest, self._providers())
            self._marker.write_bytes(msgspec.json.encode(marker))

    def forget(self) -> bool:
        """Let the next `init` run; False where it would anyway."""
        there = self._marker.exists()
        with contextlib.suppress(OSError):
            self._marker.unlink()
        return there

    def _digest(self) -> str | None:
        """None where it cannot be known."""
        commands = self._commands
        program = shutil.which(commands.program, path=commands.env.get("PATH", os.defpath))
        # HCP Terraform may change what a root needs without telling us.
        if program is None or not commands.backend.seeds:
            return None
        stat = Path(program).stat()
        pieces = [
            _VERSION,
            os.fsencode(os.path.realpath(program)),
            f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}".encode(),
            commands.backend.type.encode(),
            msgspec.json.encode(dict(self._settings), order="deterministic"),
            msgspec.json.encode(self._variables()),
        ]
        try:
            for path in self._inputs():
                pieces += [os.fsencode(path), path.read_bytes()]
        except (OSError, msgspec.MsgspecError):
            return None

        total = hashlib.sha256()
        for piece in pieces:
            # With its length, so that no two lists of pieces look the same.
            total.update(len(piece).to_bytes(8, "big") + piece)
        return total.hexdigest()

    def _variables(self) -> list[tuple[str, str]]:
        """Variables that `init` evaluates: OpenTofu's may be in a backend's settings."""
        if self._commands.program != "tofu":
            return []
        return sorted(item for item in self._commands.env.items() if item[0].startswith("TF_VAR_"))

    def _inputs(self) -> Iterator[Path]:
        """What `init` set up, the lock file, and the configuration of the
        root and of every module.
        """
        commands = self._commands
        # Somebody else's `init` may have put another state there.
        yield commands.data_dir / "terraform.tfstate"
        lock_file = commands.lock_file.current()
        if lock_file.exists():
            yield lock_file
        modules = commands.data_dir / "modules" / "modules.json"
        folders = {commands.root}
        if modules.exists():
            listed = bounded.decode(modules.read_bytes(), type=_Modules)
            folders |= {commands.root / module.folder for module in listed.modules}
            yield modules
        endings = _FILES if commands.program != "tofu" else (*_FILES, *_VARIABLE_FILES)
        for folder in sorted(folders):
            yield from (path for path in sorted(folder.iterdir()) if path.name.endswith(endings))

    def _providers(self) -> dict[str, tuple[int, int]]:
        top = self._commands.data_dir / "providers"
        found = {}
        # A provider may be a link into a cache or a mirror.
        for folder, _, names in os.walk(top, followlinks=True):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    stat = path.stat()
                    found[str(path.relative_to(top))] = (stat.st_size, stat.st_mtime_ns)
        return found


class _Module(msgspec.Struct, frozen=True):
    folder: str = msgspec.field(name="Dir")


class _Modules(msgspec.Struct, frozen=True):
    modules: tuple[_Module, ...] = msgspec.field(name="Modules", default=())
