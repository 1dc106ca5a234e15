"""`scripts/install_terraform.py`, from a server on loopback."""

import hashlib
import http.server
import io
import os
import platform
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from support.tools import ROOT

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
MACHINE = MACHINES.get(platform.machine(), platform.machine())
NAME = f"terraform_9.9.9_{platform.system().lower()}_{MACHINE}.zip"
PROGRAM = b"#!/bin/sh\necho Terraform v9.9.9\n"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A server with one release, whose checksum is in `sums` beside it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("terraform", PROGRAM)
    release = tmp_path / "served/terraform/9.9.9" / NAME
    release.parent.mkdir(parents=True)
    release.write_bytes(archive.getvalue())
    digest = hashlib.sha256(archive.getvalue()).hexdigest()
    (tmp_path / "sums").write_text(
        f"{'0' * 64}  terraform_9.9.9_plan9_mips.zip\n{digest}  {NAME}\n"
    )
    handler = partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def install(tmp_path: Path, mirror: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "scripts/install_terraform.py"
    return subprocess.run(
        [sys.executable, str(script), str(tmp_path / "bin"), "--sums", str(tmp_path / "sums")],
        env={**os.environ, "TERRAFORM_MIRROR": mirror, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_installs_what_has_the_checksum(tmp_path: Path, mirror: str) -> None:
    done = install(tmp_path, mirror)
    assert (done.returncode, done.stderr) == (0, "")
    shown = subprocess.run([tmp_path / "bin/terraform"], capture_output=True, check=True)
    assert shown.stdout == b"Terraform v9.9.9\n"
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["terraform"]


def test_another_checksum(tmp_path: Path, mirror: str) -> None:
    served = tmp_path / "served/terraform/9.9.9" / NAME
    served.write_bytes(served.read_bytes() + b"\0")
    done = install(tmp_path, mirror)
    assert done.returncode == 1
    assert "it was not installed" in done.stderr
    assert not (tmp_path / "bin").exists()


def test_no_such_file_and_no_server(tmp_path: Path, mirror: str) -> None:
    (tmp_path / "served/terraform/9.9.9" / NAME).unlink()
    for server in (mirror, "http://127.0.0.1:9"):
        done = install(tmp_path, server)
        assert done.returncode == 1
        assert "TERRAFORM_MIRROR may name another server" in done.stderr
    assert not (tmp_path / "bin").exists()


def test_a_platform_without_a_checksum(tmp_path: Path, mirror: str) -> None:
    (tmp_path / "sums").write_text(f"{'0' * 64}  terraform_9.9.9_plan9_mips.zip\n")
    assert "no Terraform is known" in install(tmp_path, mirror).stderr


def test_the_repositorys_checksums() -> None:
    lines = (ROOT / "scripts/terraform.sha256").read_text().splitlines()
    pinned = (ROOT / ".github/actions/setup/action.yml").read_text()
    platforms = {"darwin_amd64", "darwin_arm64", "linux_amd64", "linux_arm64"}
    found = set()
    for line in lines:
        digest, _, name = line.partition("  ")
        assert len(bytes.fromhex(digest)) == 32
        _, version, system, machine = name.removesuffix(".zip").split("_")
        assert f"terraform_version: {version}\n" in pinned
        found.add(f"{system}_{machine}")
    assert found == platforms
