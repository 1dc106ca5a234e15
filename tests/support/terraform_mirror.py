"""A server that has this machine's Terraform, as releases.hashicorp.com has it.

Its archive is not HashiCorp's own file, so the checksum is another one: `use_in` replaces the one
that cipipe knows in a copy of this repository. All else of an installation is real.
"""

import contextlib
import hashlib
import http.server
import platform
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cipipe.tools.terraform.setup import installing

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
PLATFORM = f"{platform.system().lower()}_{MACHINES.get(platform.machine(), platform.machine())}"
SOURCE = "cipipe/tools/terraform/setup/installing.py"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class TerraformMirror:
    # For TERRAFORM_MIRROR.
    url: str
    # SHA-256 of the archive, in hex.
    digest: str

    def use_in(self, checkout: Path) -> None:
        """Let this copy of the repository accept the archive."""
        source = checkout / SOURCE
        text = source.read_text()
        known = installing.CHECKSUMS[PLATFORM]
        assert text.count(known) == 1
        source.write_text(text.replace(known, self.digest))


@contextlib.contextmanager
def terraform_mirror(program: Path, folder: Path) -> Iterator[TerraformMirror]:
    """Serve the program from a folder, on loopback."""
    version = installing.VERSION
    archive = folder / f"terraform/{version}/terraform_{version}_{PLATFORM}.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as made:
        made.write(program, "terraform")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()

    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield TerraformMirror(url=f"http://127.0.0.1:{server.server_port}", digest=digest)
        finally:
            server.shutdown()
